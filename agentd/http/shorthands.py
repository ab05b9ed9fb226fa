"""Tasks as people write them: the spec flat beside the other fields, the kind in the path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import msgspec

from agentd.errors import Invalid
from agentd.kinds.containers import Operation, Pull
from agentd.kinds.docker import BY_OPERATION, Absolute, ContainerLimits, DockerSpec, Image, Mounts, Name, User
from agentd.kinds.docker import Command as ContainerCommand
from agentd.kinds.limits import Limits
from agentd.kinds.shell import ONE_PROGRAM, SIZED, Argv, Command, Cwd, Env, Sandbox, ShellSpec, TerminalSize
from agentd.model.requests import NewTask


def _rules(spec: type, forms: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Either `spec`, or one of the forms of its fields, as JSON Schema."""
    none = {name: {"type": "null"} for name in spec.__struct_fields__}  # type: ignore[attr-defined]
    whole = {"spec": {"$ref": f"#/components/schemas/{spec.__name__}"}}
    flat = ({**form, "properties": {**form["properties"], "spec": {"maxProperties": 0}}} for form in forms)
    return {"oneOf": [{"required": ["spec"], "properties": whole | none}, *flat]}


def _meant(task: NewTask, names: Iterable[str]) -> NewTask:
    given = {name: value for name in names if (value := getattr(task, name)) is not None}
    if given and task.spec:
        raise Invalid.field("spec", f"is given beside {', '.join(given)}; use one of the two forms")
    shared = {name: getattr(task, name) for name in NewTask.__struct_fields__}
    return NewTask(**{**shared, "spec": msgspec.json.decode(msgspec.json.encode(given)) or task.spec})


class ShellTask(NewTask, frozen=True, kw_only=True):
    """Body of POST /tasks/shell: a task, with its shell spec as `spec` or flat beside the other fields."""

    RULES: ClassVar[dict[str, Any]] = _rules(ShellSpec, ONE_PROGRAM) | {"anyOf": SIZED}

    kind: Literal["shell"] = "shell"
    spec: dict[str, Any] = {}
    command: Command | None = None
    argv: Argv | None = None
    cwd: Cwd | None = None
    env: Env | None = None
    stdin: str | None = None
    interactive: bool | None = None
    tty: bool | None = None
    terminal: TerminalSize | None = None
    sandbox: Sandbox | None = None
    limits: Limits | None = None

    def task(self) -> NewTask:
        """The task that is meant.

        Raises:
            Invalid: the spec is given twice, or not at all.
        """
        meant = _meant(self, ShellSpec.__struct_fields__)
        if not meant.spec:
            raise Invalid.field("command", "is required, or argv, or spec")
        return meant


class DockerTask(NewTask, frozen=True, kw_only=True):
    """Body of POST /tasks/docker: a task, with its docker spec as `spec` or flat beside the other fields."""

    RULES: ClassVar[dict[str, Any]] = _rules(DockerSpec, BY_OPERATION)

    kind: Literal["docker"] = "docker"
    spec: dict[str, Any] = {}
    operation: Operation | None = None
    image: Image | None = None
    id: Name | None = None
    command: ContainerCommand | None = None
    env: Env | None = None
    mounts: Mounts | None = None
    network: Name | None = None
    limits: ContainerLimits | None = None
    user: User | None = None
    workdir: Absolute | None = None
    pull: Pull | None = None
    tty: bool | None = None
    hand_over: bool | None = None
    follow: bool | None = None

    def task(self) -> NewTask:
        """The task that is meant.

        Raises:
            Invalid: the spec is given twice, or not at all.
        """
        meant = _meant(self, DockerSpec.__struct_fields__)
        if not self.spec and self.operation is None:
            raise Invalid.field("operation", "is required, or spec")
        return meant
