"""What follows from an end: dependents, and what a dead daemon left behind."""

from __future__ import annotations

from msgspec.structs import replace

from agentd.model.changes import applied_to_task, new_task
from agentd.model.consequences import after_end, interrupted, stopped_state
from agentd.model.events import TaskEvent, TaskFinished, TaskRetried, TaskStarted, type_of
from agentd.model.task import Cause, CauseCode, OnInterrupt, State, Task

AT = "2026-01-02T03:04:05.000006Z"
OK = Cause(code=CauseCode.OK, message="exit 0", exit_code=0)


def queued(task_id: str) -> Task:
    task = Task(task_id=task_id, session_id="s", kind="shell", spec={}, state=State.QUEUED, created_at=AT)
    return new_task(task, at=AT, waiting=False)


def waiting(task_id: str, *needs: str) -> Task:
    return new_task(replace(queued(task_id), needs=needs), at=AT, waiting=True)


def running(task_id: str) -> Task:
    return applied_to_task(
        queued(task_id), TaskStarted(at=AT, task_id=task_id, attempt=1, worker_id="w", boot_id="b1"), 2
    )


def ended(task_id: str, state: State = State.COMPLETED) -> Task:
    return applied_to_task(running(task_id), TaskFinished(at=AT, task_id=task_id, state=state, cause=OK), 3)


def followed(*tasks: Task, just: Task, due: float = 0.0) -> dict[str, TaskEvent]:
    """The events after `just` ended among the tasks, by task; the order must apply."""
    world = {task.task_id: task for task in (*tasks, just)}
    events = after_end(
        {just.task_id: just.state},
        lambda needed: [task for task in world.values() if needed in task.needs],
        world.get,
        at=AT,
        now=100.0,
        due=lambda task: due,
    )
    for seq, event in enumerate(events):
        world[event.task_id] = applied_to_task(world[event.task_id], event, seq)
    assert len({event.task_id for event in events}) == len(events)
    return {event.task_id: event for event in events}


def test_a_task_is_queued_when_the_last_of_its_needs_completed() -> None:
    dependent = waiting("d", "a", "b")
    assert followed(dependent, ended("b"), just=ended("a")).keys() == {"d"}
    assert type_of(followed(dependent, ended("b"), just=ended("a"))["d"]) == "task.queued"
    assert followed(dependent, running("b"), just=ended("a")) == {}


def test_a_need_that_is_no_longer_in_memory_had_completed() -> None:
    assert followed(waiting("d", "a", "pruned"), just=ended("a")).keys() == {"d"}


def test_a_task_whose_start_time_has_not_come_goes_on_waiting() -> None:
    assert followed(waiting("d", "a"), just=ended("a"), due=101.0) == {}


def test_a_failure_fails_all_that_depends_on_it_near_and_far() -> None:
    for state in (State.FAILED, State.TIMEOUT, State.CANCELLED):
        events = followed(
            waiting("d", "a", "b"), waiting("e", "d"), waiting("x", "b"), running("b"), just=ended("a", state)
        )
        assert events.keys() == {"d", "e"}
        for event in events.values():
            assert isinstance(event, TaskFinished)
            assert (event.state, event.cause.code) == (State.FAILED, CauseCode.DEPENDENCY_FAILED)
        assert f"needs a, which ended {state}" in str(events["d"])
        assert "needs d, which ended failed" in str(events["e"])


def test_a_diamond_of_needs_is_settled_once() -> None:
    assert followed(
        waiting("l", "a"), waiting("r", "a"), waiting("end", "l", "r"), just=ended("a", State.FAILED)
    ).keys() == {"l", "r", "end"}


def test_a_running_task_of_a_dead_daemon_is_failed_with_the_cause() -> None:
    event = interrupted(running("t"), at=AT, boot_id="b2")
    assert isinstance(event, TaskFinished)
    task = applied_to_task(running("t"), event, 9)
    assert (task.state, task.cause and task.cause.code) == (State.FAILED, CauseCode.INTERRUPTED)
    assert task.attempts[-1].ended_at == AT
    assert "b1" in event.cause.message and "b2" in event.cause.message


def test_a_running_task_of_a_dead_daemon_is_queued_again_where_it_asked_for_that() -> None:
    task = replace(running("t"), on_interrupt=OnInterrupt.RETRY)
    event = interrupted(task, at=AT, boot_id="b2")
    assert isinstance(event, TaskRetried)
    assert applied_to_task(task, event, 9).state is State.QUEUED


def test_what_was_asked_to_stop_is_stopped_by_that_and_never_queued_again() -> None:
    for code, state in {
        CauseCode.CANCELLED_BY_USER: State.CANCELLED,
        CauseCode.SESSION_CANCELLED: State.CANCELLED,
        CauseCode.SESSION_TIMEOUT: State.TIMEOUT,
        CauseCode.SHUTDOWN: State.FAILED,
    }.items():
        cause = Cause(code=code, message="asked")
        task = replace(running("t"), stop_cause=cause, on_interrupt=OnInterrupt.RETRY)
        after = applied_to_task(task, interrupted(task, at=AT, boot_id="b2"), 9)
        assert (after.state, after.cause) == (state, cause) == (stopped_state(cause), cause)
