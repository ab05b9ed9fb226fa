"""A run of a workflow: a session's record of what was asked and how far it is. Frozen values."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from itertools import accumulate, islice

from agentd.model.task import Value

#: Ended runs that a session keeps: the latest, and before it so many as are, with it, this many and this much text.
ENDED_KEPT = 100
ENDED_KEPT_BYTES = 4 << 20
_STEP = 64  #: characters that a step takes, without its outputs


class Standing(StrEnum):
    """Where one instance stands. One that has not been started has none."""

    LIVE = "live"  #: its task has not ended
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  #: its daemon died or was stopped under it; not its own failure
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class RunState(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class RunStep(Value, omit_defaults=True, frozen=True, kw_only=True):
    """What is recorded of one instance of a step. What is skipped is not recorded: it follows from the others."""

    tasks: tuple[str, ...] = ()  #: ids of the tasks that it was, the latest last: a run that is resumed makes another
    standing: Standing | None = None  #: None: it has not started, or runs again
    outputs: dict[str, str] = {}
    refused: tuple[str, ...] = ()  #: what it wrote to AGENTD_OUTPUT and was not taken, and why
    reason: str | None = None  #: why it failed without a task


class Resumption(Value, frozen=True, kw_only=True):
    """When an ended run went on, and the state that it was in."""

    at: str
    state: RunState


class Run(Value, frozen=True, kw_only=True):
    """One run of a workflow in a session. `seq` is that of the last event that changed it."""

    run_id: str
    session_id: str
    name: str
    source: str  #: the whole file, as it was given
    inputs: dict[str, str | int | float | bool | None] = {}
    by: str | None = None  #: whose token started it
    state: RunState = RunState.RUNNING
    where: tuple[str, ...] = ()  #: once it has ended: the instances because of which it is in that state
    reason: str | None = None  #: why it ended, if not by its steps
    steps: dict[str, RunStep] = {}  #: by instance, those that have started
    created_at: str
    ended_at: str | None = None
    cancel_requested_at: str | None = None
    resumed: tuple[Resumption, ...] = ()
    seq: int = 0

    @property
    def live(self) -> bool:
        """Whether it has not ended."""
        return self.state is RunState.RUNNING

    @property
    def weight(self) -> int:
        """Characters that it takes, about."""
        return len(self.source) + sum(_STEP + output_size(step.outputs) for step in self.steps.values())


def output_size(outputs: dict[str, str]) -> int:
    """Characters in the outputs of a step."""
    return sum(len(name) + len(value) for name, value in outputs.items())


def surplus(runs: Iterable[Run]) -> list[str]:
    """The ended runs that are no longer kept, whoever asks, and in whatever order they come."""
    ended = sorted((run for run in runs if not run.live), key=lambda run: -run.seq)
    sizes = accumulate(run.weight for run in ended)
    kept = [size <= ENDED_KEPT_BYTES for size in islice(sizes, 1, ENDED_KEPT)]
    return [run.run_id for run in ended[1 + sum(kept) :]]
