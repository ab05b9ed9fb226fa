"""A container task as people write it: its spec flat beside the other fields."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from agentd.errors import Invalid
from agentd.kinds.containers import Operation, Pull
from agentd.kinds.docker import BY_OPERATION, Absolute, Command, ContainerLimits, DockerSpec, Image, Mounts, Name, User
from agentd.kinds.specs import Env
from agentd.model.requests import NewTask

_FLAT = DockerSpec.__struct_fields__


class DockerTask(NewTask, frozen=True, kw_only=True):
    """Body of POST /tasks/docker: a task, with its docker spec as `spec` or flat beside the other fields."""

    RULES: ClassVar[dict[str, Any]] = {
        "oneOf": [
            {
                "required": ["spec"],
                "properties": {"spec": {"$ref": "#/components/schemas/DockerSpec"}}
                | {name: {"type": "null"} for name in _FLAT},
            },
            *({**rule, "properties": {**rule["properties"], "spec": {"maxProperties": 0}}} for rule in BY_OPERATION),
        ]
    }

    kind: Literal["docker"] = "docker"
    spec: dict[str, Any] = {}
    operation: Operation | None = None
    image: Image | None = None
    id: Name | None = None
    command: Command | None = None
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
        flat = {name: value for name in _FLAT if (value := getattr(self, name)) is not None}
        if flat and self.spec:
            raise Invalid.field("spec", f"is given beside {', '.join(flat)}; use one of the two forms")
        if "operation" not in flat and not self.spec:
            raise Invalid.field("operation", "is required, or spec")
        shared = {name: getattr(self, name) for name in NewTask.__struct_fields__}
        return NewTask(**{**shared, "spec": msgspec.json.decode(msgspec.json.encode(flat)) or self.spec})
