"""The kind `agent`: a prompt for an agent CLI, in the conversation of its session.

What is launched is our driver (`agentd/drivers/agent.py`); it runs the CLI and leaves a record, and the record decides.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from agentd.kinds import limits, sandbox
from agentd.kinds.agents.known import adapters
from agentd.kinds.agents.protocol import Assignment, Permission, Record
from agentd.kinds.agents.steps import Detail
from agentd.kinds.launches import launch_of
from agentd.kinds.limits import OF_A_TREE, Limits
from agentd.kinds.outcomes import finished, outcome_of, record_of, stopped, unfinished
from agentd.kinds.protocol import Outcome, Place
from agentd.kinds.sandbox import Sandbox
from agentd.kinds.specs import SOME_TEXT, TEXT_MOST, TEXT_SCHEMA, Cwd, Env, Problems, decoded
from agentd.model.facts import Facts
from agentd.model.launch import Exit, Launch
from agentd.model.requests import Request
from agentd.model.task import Cause, CauseCode, State, Task

#: A model, a tool or a conversation, in characters.
WORD_MOST = 1000
_PROMPT = {"pattern": SOME_TEXT, "maxLength": TEXT_MOST // 2}
_WORD = {**TEXT_SCHEMA, "maxLength": WORD_MOST, "pattern": r"^[^-\u0000\s][^\u0000]*$"}
Word = Annotated[str, Meta(extra_json_schema=_WORD)]


class AgentLimits(Limits, frozen=True, kw_only=True):
    """Limits of an agent with all that it starts. Those of the whole task need a cgroup: a CLI that runs on Node.js has
    an address space far above what it uses, and the user's processes are not the task's.
    """

    memory_bytes: Annotated[
        Annotated[int, Meta(ge=64 << 20, le=1 << 62)] | None,
        Meta(description="Bytes of memory of the whole task; needs a delegated cgroup."),
    ] = None
    files: Annotated[
        Annotated[int, Meta(ge=64, le=1 << 20)] | None, Meta(description="Files open at once, of each process.")
    ] = None
    processes: Annotated[
        Annotated[int, Meta(ge=16, le=1 << 22)] | None,
        Meta(description="Processes and threads of the whole task; needs a delegated cgroup."),
    ] = None


class AgentSpec(Request, frozen=True, kw_only=True):
    """What to ask of which agent."""

    agent: Annotated[str, Meta(description="claude, codex, opencode, or one that the settings describe.")]
    prompt: Annotated[str, Meta(extra_json_schema=_PROMPT, description="What it is asked.")]
    model: Annotated[Word | None, Meta(description="The model it uses, as the agent names it.")] = None
    max_turns: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | None, Meta(description="How often it may ask its model.")
    ] = None
    allowed_tools: Annotated[
        tuple[Word, ...], Meta(max_length=200, description="Tools it may use without asking.")
    ] = ()
    system_prompt: Annotated[
        Annotated[str, Meta(extra_json_schema={**TEXT_SCHEMA, "maxLength": TEXT_MOST // 4})] | None,
        Meta(description="What it is told beside its own system prompt."),
    ] = None
    resume: Annotated[bool, Meta(description="Continue the session's conversation, if there is one.")] = True
    permission: Annotated[
        Permission, Meta(description="When it wants to use a tool: ask a person, allow, or deny.")
    ] = Permission.ASK
    stall_s: Annotated[
        Annotated[float, Meta(gt=0, le=31_536_000)] | None,
        Meta(description="Seconds without a word of it after which it counts as stalled."),
    ] = None
    stall: Annotated[
        str,
        Meta(pattern="^(warn|end)$", description="What becomes of one that stalls: warn, or end it."),
    ] = "warn"
    cwd: Annotated[Cwd | None, Meta(description="Working directory; relative paths begin in the workspace.")] = None
    env: Annotated[Env, Meta(description="Environment variables over those that tasks inherit.")] = {}
    sandbox: Annotated[Sandbox | None, Meta(description="bubblewrap: what it may write to and reach is bounded.")] = (
        None
    )
    limits: Annotated[AgentLimits, Meta(description="Limits of it, with all that it starts.")] = AgentLimits()


class Agent:
    """Prompts for agent CLIs. `templates`: those that the settings describe, by name."""

    name = "agent"
    title = "Agent"
    Spec: type = AgentSpec

    def __init__(
        self,
        templates: Mapping[str, tuple[str, ...]] | None = None,
        *,
        facts: Facts | None = None,
        python: str = sys.executable,
    ) -> None:
        self._facts = facts or Facts()
        self._templates = dict(templates or {})
        self._adapters = adapters(self._templates)
        self.choices: Mapping[str, tuple[str, ...]] = {"agent": tuple(sorted(self._adapters))}
        self._python = python

    def check(self, spec: dict[str, Any]) -> None:
        """Accept a spec.

        Raises:
            Invalid: naming each wrong field, as in `spec.prompt`.
        """
        agent = decoded(spec, AgentSpec)
        wrong = self._problems(agent)
        sandbox.check(wrong, agent.sandbox, self._facts)
        limits.check(wrong, agent.limits, self._facts, OF_A_TREE)
        wrong.raise_any()

    def launch(self, task: Task, place: Place) -> Launch:
        """What to execute for the task's current attempt: the driver, told on its standard input."""
        spec = decoded(task.spec, AgentSpec)
        cwd = str(PurePosixPath(place.workspace, spec.cwd)) if spec.cwd else place.workspace
        home = f"{place.home}/{spec.agent}"
        within: tuple[str, ...] = ()
        premade: tuple[str, ...] = ()
        if spec.sandbox is not None:  # of the CLI: the driver goes on reporting
            premade = (place.env["AGENTD_OUTPUT"],) if "AGENTD_OUTPUT" in place.env else ()
            within = sandbox.prefix(spec.sandbox, self._facts, place, cwd, directories=(home,), files=premade)
        assignment = Assignment(
            agent=spec.agent,
            prompt=spec.prompt,
            model=spec.model,
            max_turns=spec.max_turns,
            allowed_tools=spec.allowed_tools,
            system_prompt=spec.system_prompt,
            permission=spec.permission,
            # One that was delegated runs beside the conversation of the session.
            conversation=place.conversations.get(spec.agent) if self.exclusive(task) is not None else None,
            env=spec.env,
            home=home,
            within=within,
            template=self._templates.get(spec.agent, ()),
            stall_s=spec.stall_s,
            stall_ends=spec.stall == "end",
            max_result_bytes=place.max_result_bytes,
        )
        return launch_of(
            task,
            place,
            # -P: the workspace is the working directory, and what is named agentd in there is not ours.
            argv=(self._python, "-P", "-m", "agentd.drivers.agent"),
            env=place.env,
            premade=premade,
            cwd=cwd,
            cgroup=spec.limits.group(self._facts),
            limits=spec.limits.resources(),
            stdin=msgspec.json.encode(assignment).decode(),
        )

    def exclusive(self, task: Task) -> str | None:
        """What of its session only one task may use at a time: the conversation with its agent.

        None for one that begins its own, and for one that another task delegated: that task may wait for it.
        """
        spec = decoded(task.spec, AgentSpec)
        return f"agent:{spec.agent}" if spec.resume and task.parent_id is None else None

    def outcome(self, task: Task, exit: Exit) -> Outcome:
        """What the exit means: a recorded stop, then what ended it, then the agent's own record."""
        record = record_of(exit, Record)
        state, cause = stopped(task, exit) or unfinished(task, exit) or _ended(record, exit)
        return outcome_of(exit, state, cause, _result(record))

    def _problems(self, spec: AgentSpec) -> Problems:
        wrong = Problems()
        adapter = self._adapters.get(spec.agent)
        if adapter is None:
            names = ", ".join(self.choices["agent"])
            wrong.add("agent", f"must be one of {names}, or described in `agents` of the settings")
        else:
            given = {
                "model": spec.model is not None,
                "max_turns": spec.max_turns is not None,
                "allowed_tools": bool(spec.allowed_tools),
                "system_prompt": spec.system_prompt is not None,
            }
            for field, is_given in given.items():
                if is_given and field not in adapter.fields:
                    wrong.add(field, f"{spec.agent} has no such setting; leave it out")
        if not spec.prompt.strip():
            wrong.add("prompt", "must not be empty")
        wrong.text("prompt", spec.prompt, TEXT_MOST // 2)
        if spec.model is not None:
            _word(wrong, "model", spec.model)
        for n, tool in enumerate(spec.allowed_tools):
            _word(wrong, f"allowed_tools[{n}]", tool)
        if spec.system_prompt is not None:
            wrong.text("system_prompt", spec.system_prompt, TEXT_MOST // 4)
        if spec.cwd is not None:
            wrong.text("cwd", spec.cwd, 4095)
        wrong.env(spec.env)
        return wrong


def _word(wrong: Problems, field: str, value: str) -> None:
    if not re.match(r"[^-\s]", value):  # it stands among the arguments of a program
        wrong.add(field, "must begin with something else than - or a space")
    wrong.text(field, value, WORD_MOST)


def _ended(record: Record | None, exit: Exit) -> tuple[State, Cause]:
    state, cause = finished(exit)
    if record is None:
        if state is State.COMPLETED:
            text = "the agent ended with exit code 0 and left no result"
            return State.FAILED, Cause(code=CauseCode.NO_RESULT, message=text, exit_code=0)
        return state, cause
    if record.detail is Detail.NOT_FOUND:
        return State.FAILED, Cause(code=CauseCode.SPAWN_FAILED, message=record.message)
    if not record.ok:
        what = record.message or "the agent failed without a reason"
        return State.FAILED, _agent_error(what, record, exit)
    return state, cause


def _agent_error(message: str, record: Record, exit: Exit) -> Cause:
    return Cause(
        code=CauseCode.AGENT_ERROR,
        message=message,
        exit_code=exit.exit_code,
        signal=exit.signal,
        detail=record.detail or Detail.EXECUTION,
        retry_at=record.retry_at,
    )


def _result(record: Record | None) -> Any:
    if record is None or record.detail is Detail.NOT_FOUND:
        return None
    return {
        "text": record.text,
        "num_turns": record.num_turns,
        "usage": record.usage,
        "cost_usd": record.cost_usd,
        "conversation_id": record.conversation_id,
    }
