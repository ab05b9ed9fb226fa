"""The kind `docker`: a container, through an engine that speaks Docker's API.

What is launched is our driver (`agentd/drivers/container.py`), which leaves a record. A container of ours never
outlives its attempt: the launch says that there may be one, and `engines/containers.py` sees to it.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from agentd.kinds.containers import HANDED_AT, LEFT, Assignment, Bind, Handed, Operation, Pull, Record
from agentd.kinds.launches import launch_of
from agentd.kinds.outcomes import finished, outcome_of, record_of, stopped, unfinished, value_of
from agentd.kinds.protocol import Outcome, Place
from agentd.kinds.specs import ARGUMENT_MOST, SOME_TEXT, TEXT_MOST, TEXT_SCHEMA, Env, Problems, decoded
from agentd.model.launch import Exit, Launch
from agentd.model.requests import Request
from agentd.model.task import Cause, CauseCode, State, Task

_PATH_MOST = 4095
_IMAGE = r"^(?!.*/\.\.(/|$))[A-Za-z0-9][A-Za-z0-9_.:@/-]{0,511}$"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$"
_USER = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,99})?$"
_ABSOLUTE = {**TEXT_SCHEMA, "pattern": r"^/[^\u0000]*$", "maxLength": _PATH_MOST}
#: The fields of each operation, beside `operation`; those of the first tuple must be given.
_FIELDS: dict[Operation, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Operation.RUN: (
        ("image",),
        ("command", "env", "mounts", "network", "limits", "user", "workdir", "pull", "tty", "hand_over"),
    ),
    Operation.START: (("id",), ()),
    Operation.STOP: (("id",), ()),
    Operation.LOGS: (("id",), ("follow",)),
}

#: The same as the document says it.
BY_OPERATION: list[dict[str, Any]] = [
    {
        "required": ["operation", *needed],
        "properties": {"operation": {"const": operation.value}}
        | {name: {"type": "string"} for name in needed}
        | {
            name: {"type": "null"}
            for fields in _FIELDS.values()
            for name in (*fields[0], *fields[1])
            if name not in (*needed, *allowed)
        },
    }
    for operation, (needed, allowed) in _FIELDS.items()
]

Command = (
    Annotated[str, Meta(extra_json_schema={**TEXT_SCHEMA, "pattern": SOME_TEXT})]
    | Annotated[
        tuple[Annotated[str, Meta(extra_json_schema=TEXT_SCHEMA)], ...], Meta(extra_json_schema={"minItems": 1})
    ]
)
Image = Annotated[str, Meta(extra_json_schema={"pattern": _IMAGE})]
Name = Annotated[str, Meta(extra_json_schema={"pattern": _NAME})]
User = Annotated[str, Meta(extra_json_schema={"pattern": _USER})]
Absolute = Annotated[str, Meta(extra_json_schema=_ABSOLUTE)]
Target = Annotated[str, Meta(extra_json_schema={**_ABSOLUTE, "pattern": rf"^/(?!{HANDED_AT[1:]}(/|$))[^\u0000]*$"})]
Source = Annotated[str, Meta(extra_json_schema={**TEXT_SCHEMA, "minLength": 1, "maxLength": _PATH_MOST})]


class Mount(Request, frozen=True, kw_only=True, omit_defaults=True):
    """A file or directory of this machine that the container sees."""

    source: Annotated[Source, Meta(description="It must exist; relative paths begin in the workspace.")]
    target: Annotated[Target, Meta(description="Where the container sees it.")]
    read_only: Annotated[bool, Meta(description="The container cannot change it.")] = False


Mounts = Annotated[tuple[Mount, ...], Meta(max_length=100)]


class ContainerLimits(Request, frozen=True, kw_only=True, omit_defaults=True):
    """Limits of the whole container; what is absent is the engine's own."""

    memory_bytes: Annotated[
        Annotated[int, Meta(ge=6 << 20, le=1 << 62)] | None, Meta(description="Bytes of memory, swap included.")
    ] = None
    cpus: Annotated[Annotated[float, Meta(ge=0.01, le=4096)] | None, Meta(description="Processors, as in 1.5.")] = None
    pids: Annotated[Annotated[int, Meta(ge=1, le=1 << 22)] | None, Meta(description="Processes at once.")] = None


class DockerSpec(Request, frozen=True, kw_only=True):
    """What to do with which container: each operation takes its own fields only."""

    RULES: ClassVar[dict[str, Any]] = {"oneOf": BY_OPERATION}

    operation: Annotated[Operation, Meta(description="run a new container; start, stop or read an existing one.")]
    image: Annotated[Image | None, Meta(description="run: the image, as in busybox:1.37.")] = None
    id: Annotated[Name | None, Meta(description="start, stop, logs: the container's id or name.")] = None
    command: Annotated[
        Command | None,
        Meta(description="run: a line for its `sh -c`, or a list of arguments; else the image's own."),
    ] = None
    env: Annotated[Env, Meta(description="run: its environment variables, over the image's.")] = {}
    mounts: Annotated[Mounts, Meta(description="run: what it sees of this machine.")] = ()
    network: Annotated[Name | None, Meta(description="run: none, bridge, host or a network's name; else none.")] = None
    limits: Annotated[ContainerLimits | None, Meta(description="run: limits of the whole container.")] = None
    user: Annotated[User | None, Meta(description="run: as whom it runs, as in 1000:1000; else the image's.")] = None
    workdir: Annotated[Absolute | None, Meta(description="run: its working directory; else the image's.")] = None
    pull: Annotated[Pull | None, Meta(description="run: when to fetch the image; else if it is missing.")] = None
    tty: Annotated[bool, Meta(description="run: give it a terminal; stdout and stderr are then one.")] = False
    hand_over: Annotated[
        bool | None,
        Meta(description="run: it may leave a result, artifacts and values; else in a workflow alone."),
    ] = None
    follow: Annotated[bool, Meta(description="logs: go on until the container ends.")] = False


class Docker:
    """Containers."""

    name = "docker"
    title = "Container"
    Spec: type = DockerSpec
    choices: Mapping[str, tuple[str, ...]] = {}

    def check(self, spec: dict[str, Any]) -> None:
        """Accept a spec.

        Raises:
            Invalid: naming each wrong field, as in `spec.mounts[0].target`.
        """
        _problems(decoded(spec, DockerSpec), spec).raise_any()

    def exclusive(self, task: Task) -> str | None:
        """Containers exclude nothing."""
        return None

    def launch(self, task: Task, place: Place) -> Launch:
        """What to execute for the task's current attempt: the driver, told on its standard input."""
        spec = decoded(task.spec, DockerSpec)
        limits = spec.limits or ContainerLimits()
        command = spec.command or ()
        handed = _handed(spec, place)
        assignment = Assignment(
            operation=spec.operation,
            agent_id=place.agent_id,
            boot_id=place.boot_id,
            task_id=task.task_id,
            attempt_id=task.attempt_id,
            grace_s=place.grace_s,
            image=spec.image or "",
            id=spec.id or "",
            command=("sh", "-c", command) if isinstance(command, str) else command,
            env=spec.env,
            mounts=tuple(_bind(mount, place.workspace) for mount in spec.mounts),
            network=spec.network or "none",
            memory_bytes=limits.memory_bytes,
            cpus=limits.cpus,
            pids=limits.pids,
            user=spec.user,
            workdir=spec.workdir,
            pull=spec.pull or Pull.MISSING,
            tty=spec.tty,
            follow=spec.follow,
            handed=handed,
            must_hand_over=bool(spec.hand_over),
            max_result_bytes=place.max_result_bytes,
        )
        launch = launch_of(
            task,
            place,
            # -P: the workspace is the working directory, and what is named agentd in there is not ours.
            argv=(sys.executable, "-P", "-m", "agentd.drivers.container"),
            env={**place.env, **place.container_engine},
            cwd=place.workspace,
            premade=tuple(each.source for each in handed if each.source != place.artifacts),
            stdin=msgspec.json.encode(assignment).decode(),
        )
        return msgspec.structs.replace(launch, may_leave_container=spec.operation is Operation.RUN)

    def outcome(self, task: Task, exit: Exit) -> Outcome:
        """What the exit means: a recorded stop, then what ended it, then the driver's record."""
        record = record_of(exit, Record)
        state, cause = stopped(task, exit) or unfinished(task, exit) or _ended(record, exit)
        return outcome_of(exit, state, cause, _result(record))


def _handed(spec: DockerSpec, place: Place) -> tuple[Handed, ...]:
    output = place.env.get("AGENTD_OUTPUT")  # of a step of a workflow
    if spec.operation is not Operation.RUN or not (output if spec.hand_over is None else spec.hand_over):
        return ()
    handed = (
        Handed(variable="AGENTD_RESULT", source=place.result_path + LEFT),
        Handed(variable="AGENTD_ARTIFACTS", source=place.artifacts),
    )
    return (*handed, Handed(variable="AGENTD_OUTPUT", source=output)) if output else handed


def _bind(mount: Mount, workspace: str) -> Bind:
    source = posixpath.normpath(PurePosixPath(workspace, mount.source))
    return Bind(source=source, target=posixpath.normpath(mount.target), read_only=mount.read_only)


def _problems(spec: DockerSpec, given: dict[str, Any]) -> Problems:
    wrong = Problems()
    needed, allowed = _FIELDS[spec.operation]
    for field in needed:
        if getattr(spec, field) is None:
            wrong.add(field, f"is required to {_said(spec.operation)}")
    for field, value in given.items():
        if field not in ("operation", *needed, *allowed) and value is not None:
            wrong.add(field, f"is no field of operation {spec.operation.value}; leave it out")
    for field, pattern, what in (
        ("image", _IMAGE, "must be an image's name, as in registry.example/name:tag"),
        ("id", _NAME, "must be a container's id or name"),
        ("network", _NAME, "must be none, bridge, host or a network's name"),
        ("user", _USER, "must be a user, or user:group, by name or number"),
    ):
        value = getattr(spec, field)
        if value is not None and re.fullmatch(pattern[1:-1], value) is None:
            wrong.add(field, what)
    _check_command(wrong, spec.command)
    if spec.workdir is not None:
        _check_target(wrong, "workdir", spec.workdir)
    for n, mount in enumerate(spec.mounts):
        if not mount.source:
            wrong.add(f"mounts[{n}].source", "must not be empty")
        wrong.text(f"mounts[{n}].source", mount.source, _PATH_MOST)
        _check_target(wrong, f"mounts[{n}].target", mount.target)
        if PurePosixPath(posixpath.normpath(mount.target)).is_relative_to(HANDED_AT):
            wrong.add(f"mounts[{n}].target", f"must not be {HANDED_AT}, where agentd puts what is handed over")
    wrong.env(spec.env)
    return wrong


def _said(operation: Operation) -> str:
    return {Operation.RUN: "run a container", Operation.LOGS: "read a container's logs"}.get(
        operation, f"{operation.value} a container"
    )


def _check_command(wrong: Problems, command: str | tuple[str, ...] | None) -> None:
    if command is None:
        return
    if not command or (isinstance(command, str) and not command.strip()):
        wrong.add("command", "must not be empty; leave it out for the image's own")
    if isinstance(command, str):
        wrong.text("command", command, ARGUMENT_MOST)
        return
    for n, argument in enumerate(command):
        wrong.text(f"command[{n}]", argument, ARGUMENT_MOST)
    if sum(map(len, command)) > TEXT_MOST:
        wrong.add("command", f"must not be longer than {TEXT_MOST} characters in all")


def _check_target(wrong: Problems, field: str, path: str) -> None:
    if not path.startswith("/"):
        wrong.add(field, "must be an absolute path of the container")
    wrong.text(field, path, _PATH_MOST)


def _ended(record: Record | None, exit: Exit) -> tuple[State, Cause]:
    if record is None or exit.signal is not None:
        return finished(exit)
    if record.problem:
        code = CauseCode.INTERRUPTED if record.started else CauseCode.SPAWN_FAILED
        return State.FAILED, Cause(code=code, message=record.problem)
    if record.out_of_memory:
        text = "was killed for using more memory than it may (limits.memory_bytes)"
        return State.FAILED, Cause(code=CauseCode.OUT_OF_MEMORY, message=text, exit_code=exit.exit_code)
    return finished(exit)


def _result(record: Record | None) -> Any:
    if record is None or record.container_id is None:
        return None
    result = {"container_id": record.container_id, "exit_code": record.exit_code, "image": record.image}
    return result if record.left is None else {**result, "value": value_of(record.left)}
