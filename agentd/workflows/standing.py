"""Where the instances of a run stand, and what that makes of their steps and of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agentd.model.run import RunState, Standing
from agentd.model.task import CauseCode, State, Task, Value
from agentd.workflows.definition import Step

__all__ = [
    "InstanceState",
    "RunStanding",
    "RunState",
    "Standing",
    "States",
    "passes",
    "standing_of",
    "step_passes",
    "step_standing",
]


class InstanceState(Value, frozen=True, kw_only=True):
    """What is known of one instance: where it stands, and what it handed on."""

    standing: Standing
    outputs: dict[str, str] = {}


States = Mapping[str, InstanceState]  #: by instance id


class RunStanding(Value, frozen=True, kw_only=True):
    """Where a run stands, and the instances because of which it is there: those that run, or those where it stopped."""

    state: RunState
    where: tuple[str, ...] = ()


#: What ends a task without its own doing.
_INTERRUPTIONS = frozenset({CauseCode.INTERRUPTED, CauseCode.SHUTDOWN, CauseCode.WORKER_LOST})


def standing_of(task: Task) -> Standing:
    """Where the instance of a task stands."""
    if not task.terminal:
        return Standing.LIVE
    if task.state is State.COMPLETED:
        return Standing.COMPLETED
    if task.cause is not None and task.cause.code in _INTERRUPTIONS:
        return Standing.INTERRUPTED
    return Standing.CANCELLED if task.state is State.CANCELLED else Standing.FAILED


_WORST_FIRST = (Standing.FAILED, Standing.INTERRUPTED, Standing.CANCELLED, Standing.COMPLETED)


def step_standing(standings: Sequence[Standing | None]) -> Standing | None:
    """Where a step stands, of all its instances: the worst, once they have all ended; None before it has started."""
    if standings.count(standings[0]) == len(standings):
        return standings[0]
    if None in standings or Standing.LIVE in standings:
        return Standing.LIVE
    return next(each for each in _WORST_FIRST if each in standings)


def passes(step: Step, standing: Standing | None) -> bool:
    """Whether what needs this step can go on as if it had completed."""
    return standing is Standing.COMPLETED or (step.continue_on_error and standing is Standing.FAILED)


def step_passes(step: Step, standings: Sequence[Standing | None]) -> bool:
    """Whether what needs this step can go on: an instance passes, and no other did more than be skipped."""
    ran = [each for each in standings if each is not Standing.SKIPPED]
    return bool(ran) and all(passes(step, each) for each in ran)
