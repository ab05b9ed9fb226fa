"""What a kind is: it turns a spec into a launch and an exit into an outcome. Pure: it runs and reads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from agentd.model.launch import Exit, Launch
from agentd.model.task import Cause, State, Task, Value


class Place(Value, frozen=True, kw_only=True):
    """Where an attempt runs and what it is given; paths are absolute."""

    workspace: str
    artifacts: str
    log_path: str
    index_path: str
    result_path: str
    env: dict[str, str]  #: what a task inherits, and the AGENTD_ variables
    grace_s: float
    max_output_bytes: int
    max_result_bytes: int
    home: str = ""  #: of the session: where the programs of its tasks keep what they remember
    conversations: dict[str, str] = {}  #: the one to continue with each agent, by its name
    private: tuple[str, ...] = ()  #: directories of the daemon that a task in a sandbox does not see into
    agent_id: str = ""
    boot_id: str = ""
    container_engine: dict[str, str] = {}  #: variables that say where it is, as the daemon has them


class Outcome(Value, frozen=True, kw_only=True):
    """What an attempt's exit means for the task."""

    state: State
    cause: Cause
    result: Any = None


class Kind(Protocol):
    """One kind of task."""

    name: str
    title: str  #: what people call it, as in a list to choose from
    Spec: type  #: a Request: the shape of `spec`, for validation and OpenAPI; the descriptions are hints of a form
    choices: Mapping[str, tuple[str, ...]]  #: what fields of the spec may be on this system alone, by their names

    def check(self, spec: dict[str, Any]) -> None:
        """Accept a spec.

        Raises:
            Invalid: naming each wrong field, as in `spec.command`.
        """

    def exclusive(self, task: Task) -> str | None:
        """What only one task of its session may use at a time, by a name; None: nothing."""

    def launch(self, task: Task, place: Place) -> Launch:
        """What to execute for the task's current attempt."""

    def outcome(self, task: Task, exit: Exit) -> Outcome:
        """What the exit means. The task's recorded `stop_cause` decides over the exit code."""
