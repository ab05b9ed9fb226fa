"""The state machine of a task: the table, and the one function that applies it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from agentd.errors import InvalidTransition
from agentd.model.task import Cause, State, Task, Transition

#: What may follow what. A terminal state has no successor: nothing reopens.
TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.WAITING: frozenset({State.QUEUED, State.CANCELLED, State.FAILED}),
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED, State.FAILED}),
    State.RUNNING: frozenset({State.COMPLETED, State.FAILED, State.TIMEOUT, State.CANCELLED, State.QUEUED}),
    State.COMPLETED: frozenset(),
    State.FAILED: frozenset(),
    State.TIMEOUT: frozenset(),
    State.CANCELLED: frozenset(),
}

#: The states a task may be created in.
INITIAL = frozenset({State.WAITING, State.QUEUED})


def moved(task: Task, to: State, *, at: str, cause: Cause | None = None, **changes: Any) -> Task:
    """The task in its next state, with the step kept in `transitions`; `changes` are set along with it.

    Raises:
        InvalidTransition: the table does not allow the step.
    """
    if to not in TRANSITIONS[task.state]:
        raise InvalidTransition(f"task {task.task_id} is {task.state}; it cannot become {to}")
    attempt = changes.get("attempt", task.attempt)
    step = Transition(state=to, at=at, attempt=attempt, cause=cause)
    return replace(task, state=to, cause=cause, transitions=(*task.transitions, step), **changes)
