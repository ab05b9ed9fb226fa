"""What the tests of workflows share: kinds, and a short way to read one."""

from __future__ import annotations

from typing import Any

from agentd.kinds.registry import kinds
from agentd.kinds.shell import Shell
from agentd.model.requests import Request
from agentd.workflows.definition import Workflow
from agentd.workflows.reading import read
from agentd.workflows.standing import InstanceState, Standing


class ContainerSpec(Request, frozen=True, kw_only=True):
    """A spec with an operation, as containers have."""

    operation: str = "run"
    image: str | None = None
    id: str | None = None
    command: tuple[str, ...] = ()
    env: dict[str, str] = {}


class Container(Shell):
    """A kind with another spec; it takes every one."""

    name = "docker"
    Spec: type = ContainerSpec

    def check(self, spec: dict[str, Any]) -> None:
        """Accept a spec."""


KINDS = {**kinds(), "docker": Container()}


def workflow(text: str) -> Workflow:
    """The workflow of the text."""
    return read(text, KINDS)


def steps(*lines: str) -> Workflow:
    """A workflow of these steps, each in braces; `run: "true"` is added where nothing is said."""
    return workflow("steps:\n" + "".join(f"  - {{{with_run(line)}}}\n" for line in lines))


def with_run(line: str) -> str:
    """The step, doing something."""
    return line if "run:" in line or "kind:" in line else f'{line}, run: "true"'


def at(standing: Standing | str, **outputs: str) -> InstanceState:
    """A state."""
    return InstanceState(standing=Standing(standing), outputs=outputs)
