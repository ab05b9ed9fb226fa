"""The kind `shell`: a command line for `sh -c`, or a list of arguments, run as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from agentd.kinds import limits, sandbox
from agentd.kinds.launches import launch_of
from agentd.kinds.limits import Limits as Limits
from agentd.kinds.outcomes import finished, outcome_of, result, stopped, unfinished
from agentd.kinds.protocol import Outcome, Place
from agentd.kinds.sandbox import Sandbox as Sandbox
from agentd.kinds.specs import ARGUMENT_MOST, SOME_TEXT, TEXT_MOST, TEXT_SCHEMA, Problems, decoded
from agentd.kinds.specs import Cwd as Cwd
from agentd.kinds.specs import Env as Env
from agentd.model.facts import Facts
from agentd.model.launch import Exit, Launch
from agentd.model.requests import Request
from agentd.model.task import Task

# What `check` accepts, as the document says it.
Command = Annotated[str, Meta(extra_json_schema={**TEXT_SCHEMA, "pattern": SOME_TEXT})]
Argv = Annotated[
    tuple[Annotated[str, Meta(extra_json_schema=TEXT_SCHEMA)], ...],
    Meta(extra_json_schema={"minItems": 1, "prefixItems": [{"type": "string", "minLength": 1}]}),
]
#: Exactly one of command and argv.
ONE_PROGRAM: list[dict[str, Any]] = [
    {"required": ["command"], "properties": {"command": {"type": "string"}, "argv": {"type": "null"}}},
    {"required": ["argv"], "properties": {"argv": {"type": "array"}, "command": {"type": "null"}}},
]
#: Only a terminal has a size.
SIZED: list[dict[str, Any]] = [
    {"properties": {"terminal": {"type": "null"}}},
    {"required": ["tty"], "properties": {"tty": {"const": True}}},
]


class TerminalSize(Request, frozen=True, kw_only=True):
    """How large a terminal is."""

    rows: Annotated[int, Meta(ge=1, le=10_000, description="Lines.")] = 24
    columns: Annotated[int, Meta(ge=1, le=10_000, description="Characters of a line.")] = 80


class ShellSpec(Request, frozen=True, kw_only=True):
    """What to run: exactly one of `command` (for `sh -c`) and `argv`.

    `cwd` is relative to the session's workspace, or absolute; `env` is set over what tasks inherit.
    """

    RULES: ClassVar[dict[str, Any]] = {"oneOf": ONE_PROGRAM, "anyOf": SIZED}

    command: Annotated[Command | None, Meta(description="A command line for `sh -c`; or give argv.")] = None
    argv: Annotated[
        Argv | None, Meta(description="A program and its arguments, run as they stand; or give command.")
    ] = None
    cwd: Annotated[Cwd | None, Meta(description="Working directory; relative paths begin in the workspace.")] = None
    env: Annotated[Env, Meta(description="Environment variables over those that tasks inherit.")] = {}
    stdin: Annotated[str | None, Meta(description="Text for its standard input.")] = None
    interactive: Annotated[bool, Meta(description="Keep its input open for what is sent to it while it runs.")] = False
    tty: Annotated[bool, Meta(description="Give it a terminal; stdout and stderr are then one.")] = False
    terminal: Annotated[TerminalSize | None, Meta(description="With tty: how large it is.")] = None
    sandbox: Annotated[Sandbox | None, Meta(description="bubblewrap: what it may write to and reach is bounded.")] = (
        None
    )
    limits: Annotated[Limits, Meta(description="Limits of each of its processes.")] = Limits()


class Shell:
    """Commands."""

    name = "shell"
    title = "Shell command"
    Spec: type = ShellSpec
    choices: Mapping[str, tuple[str, ...]] = {}

    def __init__(self, facts: Facts | None = None) -> None:
        self._facts = facts or Facts()

    def check(self, spec: dict[str, Any]) -> None:
        """Accept a spec.

        Raises:
            Invalid: naming each wrong field, as in `spec.command`.
        """
        shell = decoded(spec, ShellSpec)
        wrong = _problems(shell)
        sandbox.check(wrong, shell.sandbox, self._facts)
        limits.check(wrong, shell.limits, self._facts, ("cpus",))
        wrong.raise_any()

    def exclusive(self, task: Task) -> str | None:
        """Commands exclude nothing."""
        return None

    def launch(self, task: Task, place: Place) -> Launch:
        """What to execute for the task's current attempt."""
        spec = decoded(task.spec, ShellSpec)
        cwd = str(PurePosixPath(place.workspace, spec.cwd)) if spec.cwd else place.workspace
        argv = spec.argv if spec.argv is not None else ("/bin/sh", "-c", spec.command or "")
        env = place.env
        premade: tuple[str, ...] = ()
        if spec.sandbox is not None:  # only what is there can be shown inside, so what it leaves is there before
            premade = tuple(place.env[name] for name in ("AGENTD_RESULT", "AGENTD_OUTPUT") if name in place.env)
            env = sandbox.known_inside(env)
            argv = (*sandbox.prefix(spec.sandbox, self._facts, place, cwd, files=premade), *argv)
        return launch_of(
            task,
            place,
            argv=argv,
            env={**env, **spec.env},
            cwd=cwd,
            stdin=spec.stdin,
            cgroup=spec.limits.group(self._facts),
            premade=premade,
            interactive=spec.interactive,
            tty=spec.tty,
            tty_size=(spec.terminal.rows, spec.terminal.columns) if spec.terminal is not None else None,
            limits=spec.limits.resources(),
        )

    def outcome(self, task: Task, exit: Exit) -> Outcome:
        """What the exit means. The task's recorded `stop_cause` decides over the exit code."""
        state, cause = stopped(task, exit) or unfinished(task, exit) or finished(exit)
        return outcome_of(exit, state, cause, result(exit))


def _problems(spec: ShellSpec) -> Problems:
    wrong = Problems()
    if (spec.command is None) == (spec.argv is None):
        wrong.add("command", "give exactly one of command and argv")
    if spec.command is not None:
        if not spec.command.strip():
            wrong.add("command", "must not be empty")
        wrong.text("command", spec.command, ARGUMENT_MOST)
    if spec.argv is not None:
        if not spec.argv or not spec.argv[0]:
            wrong.add("argv", "must name a program first")
        for n, argument in enumerate(spec.argv):
            wrong.text(f"argv[{n}]", argument, ARGUMENT_MOST)
        if sum(map(len, spec.argv)) > TEXT_MOST:
            wrong.add("argv", f"must not be longer than {TEXT_MOST} characters in all")
    if spec.cwd is not None:
        wrong.text("cwd", spec.cwd, 4095)
    wrong.env(spec.env)
    if spec.terminal is not None and not spec.tty:
        wrong.add("terminal", "is of a task with tty: true")
    if spec.stdin is not None:
        wrong.text("stdin", spec.stdin, TEXT_MOST, binary=True)
    return wrong
