"""The kind `shell`: a command line for `sh -c`, or a list of arguments, run as it stands."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from agentd.errors import FieldError, Invalid
from agentd.kinds.protocol import Outcome, Place
from agentd.model.consequences import stopped_state
from agentd.model.launch import EndedBy, Exit, Launch, ResourceLimits
from agentd.model.reading import UNREADABLE, containers_in
from agentd.model.requests import Request
from agentd.model.task import Cause, CauseCode, State, Task, signal_name

#: What a command line, all arguments together, an environment and an input may measure, in characters.
TEXT_MOST = 1 << 20
#: One argument that the system accepts at most (MAX_ARG_STRLEN of execve(2)), less its end.
ARGUMENT_MOST = (128 << 10) - 1

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = "AGENTD_"

# What `_problems` checks, as the document says it.
_TEXT = {"pattern": r"^[^\u0000]*$", "maxLength": ARGUMENT_MOST}
Command = Annotated[str, Meta(extra_json_schema={**_TEXT, "pattern": r"^[^\u0000]*[^\u0000\s][^\u0000]*$"})]
Argv = Annotated[
    tuple[Annotated[str, Meta(extra_json_schema=_TEXT)], ...],
    Meta(extra_json_schema={"minItems": 1, "prefixItems": [{"type": "string", "minLength": 1}]}),
]
Cwd = Annotated[str, Meta(extra_json_schema={**_TEXT, "maxLength": 4095})]
Env = dict[
    Annotated[str, Meta(extra_json_schema={"pattern": f"^(?!{_RESERVED}){_ENV_NAME.pattern}$"})],
    Annotated[str, Meta(extra_json_schema=_TEXT)],
]
#: Exactly one of command and argv.
ONE_PROGRAM: list[dict[str, Any]] = [
    {"required": ["command"], "properties": {"command": {"type": "string"}, "argv": {"type": "null"}}},
    {"required": ["argv"], "properties": {"argv": {"type": "array"}, "command": {"type": "null"}}},
]


class Limits(Request, frozen=True, kw_only=True):
    """Limits of each process of the task (setrlimit); what is absent is the daemon's own."""

    memory_bytes: Annotated[
        Annotated[int, Meta(ge=1 << 20, le=1 << 62)] | None, Meta(description="Bytes of address space.")
    ] = None
    cpu_s: Annotated[Annotated[int, Meta(ge=1, le=1 << 31)] | None, Meta(description="Seconds of processor time.")] = (
        None
    )
    files: Annotated[Annotated[int, Meta(ge=3, le=1 << 20)] | None, Meta(description="Files open at once.")] = None


class ShellSpec(Request, frozen=True, kw_only=True):
    """What to run: exactly one of `command` (for `sh -c`) and `argv`.

    `cwd` is relative to the session's workspace, or absolute; `env` is set over what tasks inherit.
    """

    RULES: ClassVar[dict[str, Any]] = {"oneOf": ONE_PROGRAM}

    command: Annotated[Command | None, Meta(description="A command line for `sh -c`; or give argv.")] = None
    argv: Annotated[
        Argv | None, Meta(description="A program and its arguments, run as they stand; or give command.")
    ] = None
    cwd: Annotated[Cwd | None, Meta(description="Working directory; relative paths begin in the workspace.")] = None
    env: Annotated[Env, Meta(description="Environment variables over those that tasks inherit.")] = {}
    stdin: Annotated[str | None, Meta(description="Text for its standard input.")] = None
    tty: Annotated[bool, Meta(description="Give it a terminal; stdout and stderr are then one.")] = False
    limits: Annotated[Limits, Meta(description="Limits of each of its processes.")] = Limits()


class Shell:
    """Commands."""

    name = "shell"
    title = "Shell command"
    Spec: type = ShellSpec

    def check(self, spec: dict[str, Any]) -> None:
        """Accept a spec.

        Raises:
            Invalid: naming each wrong field, as in `spec.command`.
        """
        wrong = list(_problems(_decoded(spec)))
        if wrong:
            raise Invalid("; ".join(f"{field}: {message}" for field, message in wrong), errors=wrong)

    def launch(self, task: Task, place: Place) -> Launch:
        """What to execute for the task's current attempt."""
        spec = _decoded(task.spec)
        return Launch(
            attempt_id=f"{task.task_id}.{task.attempt}",
            task_id=task.task_id,
            argv=spec.argv if spec.argv is not None else ("/bin/sh", "-c", spec.command or ""),
            env={**place.env, **spec.env},
            cwd=str(PurePosixPath(place.workspace, spec.cwd)) if spec.cwd else place.workspace,
            stdin=spec.stdin,
            tty=spec.tty,
            limits=ResourceLimits(
                memory_bytes=spec.limits.memory_bytes, cpu_s=spec.limits.cpu_s, files=spec.limits.files
            ),
            timeout_s=task.timeout_s,
            grace_s=place.grace_s,
            max_output_bytes=min(task.max_output_bytes or place.max_output_bytes, place.max_output_bytes),
            log_path=place.log_path,
            index_path=place.index_path,
            result_path=place.result_path,
            max_result_bytes=place.max_result_bytes,
        )

    def outcome(self, task: Task, exit: Exit) -> Outcome:
        """What the exit means. The task's recorded `stop_cause` decides over the exit code."""
        state, cause = stopped(task, exit) or unfinished(task, exit) or _finished(exit)
        if exit.message not in cause.message:  # however it ended: output that the disk refused, a result too large
            cause = msgspec.structs.replace(cause, message=f"{cause.message}; {exit.message}")
        return Outcome(state=state, cause=cause, result=result(exit))


def stopped(task: Task, exit: Exit) -> tuple[State, Cause] | None:
    """The end of a task that somebody asked to stop; None when nobody did."""
    intent = task.stop_cause
    if intent is None:
        return None
    cause = msgspec.structs.replace(intent, exit_code=exit.exit_code, signal=exit.signal)
    return stopped_state(intent), cause


def unfinished(task: Task, exit: Exit) -> tuple[State, Cause] | None:
    """The end of an attempt that was not its program's own doing; None when it was."""

    def cause(code: CauseCode, message: str) -> Cause:
        return Cause(code=code, message=message, exit_code=exit.exit_code, signal=exit.signal)

    match exit.ended_by:
        case EndedBy.TIMEOUT:
            limit = "its timeout" if task.timeout_s is None else f"timeout_s ({task.timeout_s:g} s)"
            return State.TIMEOUT, cause(CauseCode.TIMEOUT, f"ran longer than {limit} and was ended")
        case EndedBy.OUTPUT_LIMIT:
            text = f"wrote more than the {exit.output_bytes} bytes of output it may (max_output_bytes) and was ended"
            return State.FAILED, cause(CauseCode.OUTPUT_LIMIT, text)
        case EndedBy.OUT_OF_MEMORY:
            return State.FAILED, cause(
                CauseCode.OUT_OF_MEMORY, "was killed while the system was ending processes for lack of memory"
            )
        case EndedBy.SPAWN_FAILED:
            return State.FAILED, cause(CauseCode.SPAWN_FAILED, exit.message or "could not be started")
        case EndedBy.WORKER_LOST:
            return State.FAILED, cause(CauseCode.WORKER_LOST, exit.message or "its worker was lost")
        case EndedBy.STOPPED:
            return State.FAILED, cause(CauseCode.INTERRUPTED, "was ended by its engine without a recorded reason")
        case EndedBy.EXIT:
            return None


def _finished(exit: Exit) -> tuple[State, Cause]:
    if exit.signal is not None:
        text = f"ended by signal {exit.signal} ({signal_name(exit.signal)})"
        return State.FAILED, Cause(code=CauseCode.SIGNAL, message=text, signal=exit.signal)
    if exit.exit_code:
        text = f"exited with code {exit.exit_code}"
        return State.FAILED, Cause(code=CauseCode.EXIT_CODE, message=text, exit_code=exit.exit_code)
    text = "exited with code 0"
    if exit.leftovers:
        text += f"; {exit.leftovers} processes that it left running were ended"
    return State.COMPLETED, Cause(code=CauseCode.OK, message=text, exit_code=0)


def result(exit: Exit) -> Any:
    """What the task wrote as its result: the JSON value, or `{"text": …}` of what is not JSON."""
    if exit.result is None or not exit.result.strip():
        return None
    try:
        value = msgspec.json.decode(exit.result)
    except UNREADABLE:
        return {"text": exit.result}
    # As deep as a request may be: it is written wherever the task is shown.
    return {"text": exit.result} if containers_in(value, len(exit.result)) is None else value


def _decoded(spec: dict[str, Any]) -> ShellSpec:
    try:
        return msgspec.convert(spec, ShellSpec)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None


def _invalid(message: str) -> Invalid:
    """msgspec says `Expected … - at `$.limits.files``, or names an unknown field of an object."""
    text, _, path = message.partition(" - at `$")
    field = "spec" + path.rstrip("`")
    if (unknown := re.search(r"unknown field `(.+)`", text)) is not None:
        return Invalid.field(f"{field}.{unknown[1]}", "no such field")
    return Invalid.field(field, text[:1].lower() + text[1:])


_SURROGATE = re.compile("[\ud800-\udfff]")


def _problems(spec: ShellSpec) -> list[FieldError]:
    wrong: list[FieldError] = []

    def add(field: str, message: str) -> None:
        wrong.append(FieldError(f"spec.{field}", message))

    def text(field: str, value: str, most: int, *, binary: bool = False) -> None:
        if "\0" in value and not binary:
            add(field, "must not contain a NUL byte")
        elif (len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))) > most:
            add(field, f"must not be longer than {most} bytes")
        elif _SURROGATE.search(value) is not None:
            add(field, "must be valid Unicode")

    if (spec.command is None) == (spec.argv is None):
        add("command", "give exactly one of command and argv")
    if spec.command is not None:
        if not spec.command.strip():
            add("command", "must not be empty")
        text("command", spec.command, ARGUMENT_MOST)
    if spec.argv is not None:
        if not spec.argv or not spec.argv[0]:
            add("argv", "must name a program first")
        for n, argument in enumerate(spec.argv):
            text(f"argv[{n}]", argument, ARGUMENT_MOST)
        if sum(map(len, spec.argv)) > TEXT_MOST:
            add("argv", f"must not be longer than {TEXT_MOST} characters in all")
    if spec.cwd is not None:
        text("cwd", spec.cwd, 4095)
    for name, value in spec.env.items():
        if not _ENV_NAME.fullmatch(name):
            add(f"env.{name}", "names are letters, digits and _, and do not begin with a digit")
        elif name.startswith(_RESERVED):
            add(f"env.{name}", f"names that begin with {_RESERVED} are set by agentd")
        text(f"env.{name}", value, ARGUMENT_MOST)
    if sum(len(name) + len(value) for name, value in spec.env.items()) > TEXT_MOST:
        add("env", f"must not be longer than {TEXT_MOST} characters in all")
    if spec.stdin is not None:
        text("stdin", spec.stdin, TEXT_MOST, binary=True)
    return wrong
