"""Which kinds there are, and what they say of a task."""

from __future__ import annotations

from collections.abc import Mapping

from agentd.errors import Invalid
from agentd.kinds.agent import Agent
from agentd.kinds.docker import Docker
from agentd.kinds.protocol import Kind, Outcome, Place
from agentd.kinds.shell import Shell
from agentd.model.consequences import stopped_state
from agentd.model.facts import Facts
from agentd.model.launch import Exit, Launch
from agentd.model.task import Cause, CauseCode, Task


class Kinds(dict[str, Kind]):
    """Kinds by their names; a task's `kind` was one of these when it was accepted, and may not be any more."""

    def launch(self, task: Task, place: Place) -> Launch:
        """What to execute for the task's current attempt.

        Raises:
            Invalid: there is no such kind.
        """
        kind = self.get(task.kind)
        if kind is None:
            raise Invalid(f"there is no kind {task.kind!r}")
        return kind.launch(task, place)

    def exclusive(self, task: Task) -> str | None:
        """What only one task of its session may use at a time, by a name; None: nothing."""
        kind = self.get(task.kind)
        return kind.exclusive(task) if kind is not None else None

    def outcome(self, task: Task, exit: Exit) -> Outcome:
        """What the exit means."""
        kind = self.get(task.kind)
        if kind is not None:
            return kind.outcome(task, exit)
        cause = task.stop_cause or Cause(code=CauseCode.INVALID_SPEC, message=f"there is no kind {task.kind!r}")
        return Outcome(state=stopped_state(cause), cause=cause)


def kinds(agents: Mapping[str, tuple[str, ...]] | None = None, facts: Facts | None = None) -> Kinds:
    """Every kind by its name; a task's `kind` must be one of these.

    `agents`: templates of the settings. `facts`: what the system can do; without them, no sandbox and no cgroup.
    """
    facts = facts or Facts()
    return Kinds({kind.name: kind for kind in (Shell(facts), Agent(agents, facts=facts), Docker())})
