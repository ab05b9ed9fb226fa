"""A shell task as people write it: its spec flat beside the other fields."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from agentd.errors import Invalid
from agentd.kinds.shell import ONE_PROGRAM, Argv, Command, Cwd, Env, Sandbox, TerminalSize
from agentd.model.launch import ResourceLimits
from agentd.model.requests import NewTask

_FLAT = ("command", "argv", "cwd", "env", "stdin", "interactive", "tty", "terminal", "sandbox", "limits")


class ShellTask(NewTask, frozen=True, kw_only=True):
    """Body of POST /tasks/shell: a task, with its shell spec as `spec` or flat beside the other fields."""

    RULES: ClassVar[dict[str, Any]] = {
        "oneOf": [
            {
                "required": ["spec"],
                "properties": {"spec": {"$ref": "#/components/schemas/ShellSpec"}}
                | {name: {"type": "null"} for name in _FLAT},
            },
            *({**rule, "properties": {**rule["properties"], "spec": {"maxProperties": 0}}} for rule in ONE_PROGRAM),
        ]
    }

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
    limits: ResourceLimits | None = None

    def task(self) -> NewTask:
        """The task that is meant.

        Raises:
            Invalid: the spec is given twice, or not at all.
        """
        flat = {name: value for name in _FLAT if (value := getattr(self, name)) is not None}
        if flat and self.spec:
            raise Invalid.field("spec", f"is given beside {', '.join(flat)}; use one of the two forms")
        if not flat and not self.spec:
            raise Invalid.field("command", "is required, or argv, or spec")
        if self.limits is not None:
            given = msgspec.to_builtins(self.limits)
            flat["limits"] = {name: value for name, value in given.items() if value is not None}
        for name in ("terminal", "sandbox"):
            if name in flat:
                flat[name] = msgspec.to_builtins(flat[name])
        if self.argv is not None:
            flat["argv"] = list(self.argv)
        shared = {name: getattr(self, name) for name in NewTask.__struct_fields__}
        return NewTask(**{**shared, "spec": flat or self.spec})
