"""What clients ask of workflows and are answered: the bodies and queries of their routes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from agentd.model.requests import Name, Request, Window
from agentd.model.run import Resumption, RunState
from agentd.model.task import Value

SOURCE_BYTES = 1 << 20
#: Of a request that carries a source: as JSON most texts are little longer.
BODY_BYTES = 2 * SOURCE_BYTES + (64 << 10)

Source = Annotated[str, Meta(max_length=SOURCE_BYTES, description="The workflow file, as text (YAML).")]
Given = str | int | float | bool


class NewRun(Request, frozen=True, kw_only=True):
    """Body of POST /sessions/{session_id}/workflow."""

    source: Source
    inputs: Annotated[
        dict[Name, Given], Meta(max_length=1000, description="Values of its inputs; the others have their defaults.")
    ] = {}


class WorkflowSource(Request, frozen=True, kw_only=True):
    """Body of POST /workflows/validate."""

    source: Source


class RunQuery(Window, frozen=True, kw_only=True):
    """Filters of GET /sessions/{session_id}/workflows; newest first."""

    state: tuple[RunState, ...] = ()


class StepState(StrEnum):
    """Where one instance of a step is: it waits for what it needs, has a task, or how it ended."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class StepView(Value, frozen=True, kw_only=True):
    """One step, or one combination of its matrix."""

    id: str  #: `fetch`, or `test[python=3.11]`
    step: str  #: as the file has it
    kind: str | None = None
    needs: tuple[str, ...] = ()  #: steps, as the file has them
    matrix: dict[str, str | int | float | bool | None] = {}
    line: int | None = None  #: of the file
    continue_on_error: bool = False
    state: StepState = StepState.WAITING
    task_id: str | None = None  #: the latest of `tasks`
    tasks: tuple[str, ...] = ()
    outputs: dict[str, str] = {}
    refused: tuple[str, ...] = ()  #: what it handed on and was not taken
    reason: str | None = None  #: why it was skipped, or failed without a task


class RunView(Value, frozen=True, kw_only=True):
    """One run. Where one is asked for, `steps` has every instance of every step, in the order of the file."""

    run_id: str
    session_id: str
    name: str
    state: RunState
    where: tuple[str, ...] = ()  #: the instances that run, or because of which it ended as it did
    reason: str | None = None  #: why it ended, if not by its steps
    held: str | None = None  #: why steps that could start do not yet
    inputs: dict[str, str | int | float | bool | None] = {}
    by: str | None = None
    created_at: str
    ended_at: str | None = None
    cancel_requested_at: str | None = None
    resumed: tuple[Resumption, ...] = ()
    seq: int
    steps: tuple[StepView, ...] | UnsetType = UNSET
    source: str | UnsetType = UNSET


class InputView(Value, frozen=True, kw_only=True):
    """An input that a workflow takes."""

    name: str
    default: str | int | float | bool | None = None
    required: bool = False
    description: str | None = None


class WorkflowOutline(Value, frozen=True, kw_only=True):
    """What a workflow is that can be run."""

    name: str
    description: str | None = None
    inputs: tuple[InputView, ...] = ()
    steps: tuple[StepView, ...] = ()
