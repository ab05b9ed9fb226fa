"""What follows from what: dependents of an ended task, and what a dead daemon left behind. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from agentd.model.events import AttemptEnd, TaskEvent, TaskFinished, TaskQueued, TaskRetried
from agentd.model.task import Cause, CauseCode, OnInterrupt, State, Task

#: The state that a recorded intent to stop ends in; everything else that is not `ok` ends in `failed`.
_STATE_OF_STOP = {
    CauseCode.CANCELLED_BY_USER: State.CANCELLED,
    CauseCode.SESSION_CANCELLED: State.CANCELLED,
    CauseCode.SESSION_TIMEOUT: State.TIMEOUT,
    CauseCode.TIMEOUT: State.TIMEOUT,
}


def stopped_state(cause: Cause) -> State:
    """The terminal state of a running task that was asked to stop for this cause."""
    return _STATE_OF_STOP.get(cause.code, State.FAILED)


def unanswered(task: Task, cause: Cause) -> Cause:
    """The cause of an end, which also says when a question was still open."""
    if task.awaiting is None:
        return cause
    asked = task.awaiting.prompt.split("\n", 1)[0]
    return replace(cause, message=f"{cause.message}; its question of {task.awaiting.since} had no answer: {asked:.200}")


def after_end(
    ended: Mapping[str, State],
    dependents: Callable[[str], Sequence[Task]],
    lookup: Callable[[str], Task | None],
    *,
    at: str,
    now: float,
    due: Callable[[Task], float],
) -> list[TaskEvent]:
    """Events for waiting tasks whose needs just ended: queued when all are completed, failed when one is not.

    `ended` has their states by id, `dependents(id)` gives the waiting tasks that need it, `lookup` any task as it is,
    `due(task)` its start time in seconds since the epoch. A failure fails its own dependents in turn.
    """
    events: list[TaskEvent] = []
    settled = dict(ended)
    todo = list(settled)
    while todo:
        needed = todo.pop()
        for task in dependents(needed):
            if task.task_id in settled or task.state is not State.WAITING:
                continue
            if settled[needed] is not State.COMPLETED:
                settled[task.task_id] = State.FAILED
                todo.append(task.task_id)
                cause = Cause(
                    code=CauseCode.DEPENDENCY_FAILED, message=f"needs {needed}, which ended {settled[needed]}"
                )
                events.append(TaskFinished(at=at, task_id=task.task_id, state=State.FAILED, cause=cause))
            elif due(task) <= now and all(_completed(need, settled, lookup) for need in task.needs):
                settled[task.task_id] = State.QUEUED
                events.append(TaskQueued(at=at, task_id=task.task_id))
    return events


def open_needs(task: Task, lookup: Callable[[str], Task | None]) -> list[str]:
    """What the task still needs. A need that is not in memory has completed: else it would have failed the task."""
    found = ((need, lookup(need)) for need in task.needs)
    return [need for need, needed in found if needed is not None and needed.state is not State.COMPLETED]


def _completed(task_id: str, settled: dict[str, State], lookup: Callable[[str], Task | None]) -> bool:
    state = settled.get(task_id)
    if state is None:
        task = lookup(task_id)
        # Pruned or moved out of memory: only a finished task can be, and a failed one has failed its dependents.
        return task is None or task.state is State.COMPLETED
    return state is State.COMPLETED


def interrupted(task: Task, *, at: str, boot_id: str) -> TaskEvent:
    """What becomes of a task that was running when its daemon or machine died; its processes are gone."""
    if task.stop_cause is not None:
        cause = task.stop_cause
        end = AttemptEnd(cause=cause, usage=task.attempts[-1].usage)
        return TaskFinished(at=at, task_id=task.task_id, state=stopped_state(cause), cause=cause, end=end)
    text = f"the daemon (boot {task.attempts[-1].boot_id}) died while it ran; found at the start of {boot_id}"
    cause = unanswered(task, Cause(code=CauseCode.INTERRUPTED, message=text))
    end = AttemptEnd(cause=cause, usage=task.attempts[-1].usage)
    if task.on_interrupt is OnInterrupt.RETRY:
        return TaskRetried(at=at, task_id=task.task_id, end=end)
    return TaskFinished(at=at, task_id=task.task_id, state=State.FAILED, cause=cause, end=end)
