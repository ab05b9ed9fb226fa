"""What a workflow is, once it is read: frozen values, with everything known that is fixed before a run."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from agentd.model.requests import AskedRetry
from agentd.model.task import Value
from agentd.workflows.templates import Template

MAX_STEPS = 500
MAX_COMBINATIONS = 256  #: of one step's matrix
MAX_INSTANCES = 1000  #: of all steps

#: A number, a text, true, false or null.
ScalarValue = str | int | float | bool | None


class Input(Value, frozen=True, kw_only=True):
    """A value that whoever starts a run gives."""

    name: str
    default: ScalarValue = None
    required: bool = False
    description: str | None = None


class Instance(Value, frozen=True, kw_only=True):
    """A step, or one combination of its matrix: what runs as one task."""

    instance_id: str  #: `fetch`, or `test[python=3.11,os=linux]`; the same in every reading of the same file
    step_id: str
    matrix: dict[str, ScalarValue] = {}


class Step(Value, frozen=True, kw_only=True):
    """A step as it is written; texts with expressions are templates."""

    id: str
    name: str | Template | None = None
    kind: str
    spec: dict[str, Any]  #: of the kind; `env` of the step is put in when it starts
    env: dict[str, Any] = {}  #: over that of the workflow
    takes_env: bool = True  #: whether its kind has an environment
    needs: tuple[str, ...] = ()
    condition: Template | None = None  #: `if`: one expression
    timeout_s: float | None = None
    retry: AskedRetry | None = None
    continue_on_error: bool = False
    outputs: tuple[str, ...] = ()
    instances: tuple[Instance, ...]
    line: int = 1  #: where it begins in the file, from 1


class Workflow(Value, frozen=True, kw_only=True, dict=True):
    """A whole file."""

    name: str
    description: str | None = None
    inputs: dict[str, Input] = {}
    env: dict[str, Any] = {}
    steps: dict[str, Step]  #: by id, as they are written
    order: tuple[str, ...]  #: ids so that every step comes after what it needs

    @cached_property
    def instances(self) -> dict[str, Instance]:
        """Every instance of every step by its id, as they are written."""
        return {each.instance_id: each for step in self.steps.values() for each in step.instances}
