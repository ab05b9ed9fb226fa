"""What each event makes of a run; `changes.py` does so for sessions and tasks."""

from __future__ import annotations

from msgspec.structs import replace

from agentd.errors import InvalidTransition
from agentd.model.events import Event, TaskCreated, type_of
from agentd.model.run import Resumption, Run, RunState, RunStep, Standing
from agentd.model.run_events import (
    RunCancelRequested,
    RunCreated,
    RunEnded,
    RunEvent,
    RunResumed,
    RunStepEnded,
    RunStepRefused,
)


def run_of(event: Event) -> str | None:
    """The run that the event changes, if it changes one: also the creation of a task that is one of its steps."""
    if isinstance(event, RunEvent):
        return event.run_id
    if isinstance(event, TaskCreated) and event.task.workflow is not None:
        return event.task.workflow.run_id
    return None


def applied_to_run(run: Run | None, event: Event, seq: int) -> Run | None:
    """The run after the event; None when it is a task of a run that is no longer kept.

    Raises:
        InvalidTransition: the event does not fit the run's state.
    """
    if isinstance(event, RunCreated):
        if run is not None or event.run.state is not RunState.RUNNING:
            raise InvalidTransition(f"run {event.run_id} cannot be created as {event.run.state}")
        return replace(event.run, seq=seq)
    if run is None:
        if isinstance(event, TaskCreated):
            return None
        raise InvalidTransition(f"run {run_of(event)} does not exist")
    if run.live is isinstance(event, RunResumed):
        raise InvalidTransition(f"run {run.run_id} is {run.state}; {type_of(event)} does not apply to it")
    match event:
        case TaskCreated(task_id=task_id, task=task):
            assert task.workflow is not None
            before = run.steps.get(task.workflow.step, RunStep())
            return _with(run, task.workflow.step, RunStep(tasks=(*before.tasks, task_id), standing=Standing.LIVE), seq)
        case RunStepEnded():
            step = replace(
                run.steps.get(event.step, RunStep()),
                standing=event.standing,
                outputs=event.outputs,
                refused=event.refused,
            )
            return _with(run, event.step, step, seq)
        case RunStepRefused():
            step = replace(run.steps.get(event.step, RunStep()), standing=Standing.FAILED, reason=event.reason)
            return _with(run, event.step, step, seq)
        case RunCancelRequested():
            return replace(run, cancel_requested_at=run.cancel_requested_at or event.at, seq=seq)
        case RunResumed():
            again = {each: RunStep(tasks=run.steps[each].tasks) for each in event.again if each in run.steps}
            return replace(
                run,
                state=RunState.RUNNING,
                where=(),
                reason=None,
                steps={**run.steps, **again},
                ended_at=None,
                cancel_requested_at=None,
                resumed=(*run.resumed, Resumption(at=event.at, state=run.state)),
                seq=seq,
            )
        case RunEnded():
            left = {  # nobody follows these any more, whatever becomes of them
                each: replace(step, standing=Standing.INTERRUPTED)
                for each, step in run.steps.items()
                if step.standing is Standing.LIVE
            }
            return replace(
                run,
                state=event.state,
                where=event.where,
                reason=event.reason,
                steps={**run.steps, **left} if left else run.steps,
                ended_at=event.at,
                seq=seq,
            )
    raise InvalidTransition(f"no rule for {type_of(event)}")


def _with(run: Run, name: str, step: RunStep, seq: int) -> Run:
    return replace(run, steps={**run.steps, name: step}, seq=seq)


def created_run(run: Run, seq: int) -> Run:
    """The run as its creation, at `seq`, recorded it: what the first answer to its request said."""
    return replace(
        run,
        state=RunState.RUNNING,
        where=(),
        reason=None,
        steps={},
        ended_at=None,
        cancel_requested_at=None,
        resumed=(),
        seq=seq,
    )
