"""Events: how they are written and read back, and what each makes of a task or a session."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from agentd.errors import InvalidTransition
from agentd.model.changes import applied_to_session, applied_to_task, created, new_task
from agentd.model.events import (
    EVENT_TYPES,
    AttemptEnd,
    Event,
    SessionArchived,
    SessionPruned,
    SessionUpdated,
    TaskAwaiting,
    TaskCreated,
    TaskEvent,
    TaskFinished,
    TaskProgress,
    TaskQueued,
    TaskRetried,
    TaskSpawned,
    TaskStarted,
    TaskStopRequested,
    Unknown,
    decoded,
    type_of,
)
from agentd.model.session import Policy, Session, SessionChanges
from agentd.model.task import TERMINAL, Cause, CauseCode, Question, State, Task

AT, LATER = "2026-01-02T03:04:05.000006Z", "2026-01-02T03:04:06.000006Z"
CAUSE = Cause(code=CauseCode.EXIT_CODE, message="exit 3", exit_code=3)
STOP = Cause(code=CauseCode.CANCELLED_BY_USER, message="cancelled by ada")
BLANK = Task(task_id="t", session_id="s", kind="shell", spec={"command": "true"}, state=State.QUEUED, created_at=AT)
QUEUED = new_task(BLANK, at=AT, waiting=False)
WAITING = new_task(BLANK, at=AT, waiting=True)
STARTED = TaskStarted(at=AT, task_id="t", attempt=1, worker_id="w1", boot_id="b1", wait_s=0.5)
RUNNING = applied_to_task(QUEUED, STARTED, 2)
QUESTION = Question(ask_id="q", prompt="go on?", options=("yes", "no"), since=AT)
END = AttemptEnd(cause=CAUSE, duration_s=1.5, output_bytes=9)
WIDE = Policy(max_parallel=4)
SESSION = Session(session_id="s", created_at=AT, updated_at=AT, labels={"a": "1"})


def in_state(state: State) -> Task:
    if state in TERMINAL:
        return applied_to_task(RUNNING, TaskFinished(at=AT, task_id="t", state=state, cause=CAUSE, end=END), 3)
    return {State.WAITING: WAITING, State.QUEUED: QUEUED, State.RUNNING: RUNNING}[state]


#: Each event with the states it applies to.
EVENTS: list[tuple[TaskEvent, set[State]]] = [
    (TaskQueued(at=AT, task_id="t"), {State.WAITING}),
    (STARTED, {State.QUEUED}),
    (TaskSpawned(at=AT, task_id="t", attempt=1, pid=7, pid_started_at=8), {State.RUNNING}),
    (TaskProgress(at=AT, task_id="t", progress=4.0), {State.RUNNING}),
    (TaskAwaiting(at=AT, task_id="t"), {State.RUNNING}),
    (TaskStopRequested(at=AT, task_id="t", cause=STOP), {State.RUNNING}),
    (TaskRetried(at=AT, task_id="t", end=END), {State.RUNNING}),
    (TaskFinished(at=AT, task_id="t", state=State.COMPLETED, cause=CAUSE, end=END), {State.RUNNING}),
    (TaskFinished(at=AT, task_id="t", state=State.TIMEOUT, cause=CAUSE, end=END), {State.RUNNING}),
    (TaskFinished(at=AT, task_id="t", state=State.FAILED, cause=CAUSE), {State.WAITING, State.QUEUED, State.RUNNING}),
    (
        TaskFinished(at=AT, task_id="t", state=State.CANCELLED, cause=CAUSE),
        {State.WAITING, State.QUEUED, State.RUNNING},
    ),
    (TaskFinished(at=AT, task_id="t", state=State.QUEUED, cause=CAUSE), set()),
    (TaskFinished(at=AT, task_id="t", state=State.RUNNING, cause=CAUSE), set()),
    (TaskCreated(at=AT, task_id="t", task=QUEUED), set()),
]
NAMES = [f"{type_of(event)}-{getattr(event, 'state', '')}" for event, _ in EVENTS]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize(("event", "states"), EVENTS, ids=NAMES)
def test_an_event_applies_to_the_states_it_is_meant_for_and_no_other(
    event: TaskEvent, states: set[State], state: State
) -> None:
    task = in_state(state)
    if state in states:
        assert applied_to_task(task, event, 9).seq == 9
    else:
        with pytest.raises(InvalidTransition):
            applied_to_task(task, event, 9)


def test_a_task_is_created_waiting_or_queued_and_nothing_else() -> None:
    for state in State:
        event = TaskCreated(at=AT, task_id="t", task=replace(BLANK, state=state))
        if state in (State.WAITING, State.QUEUED):
            assert applied_to_task(None, event, 1).seq == 1
        else:
            with pytest.raises(InvalidTransition, match="cannot be created as"):
                applied_to_task(None, event, 1)


def test_nothing_happens_to_a_task_that_does_not_exist() -> None:
    with pytest.raises(InvalidTransition, match="does not exist"):
        applied_to_task(None, TaskQueued(at=AT, task_id="t"), 1)


def test_a_start_opens_an_attempt_and_an_end_closes_it() -> None:
    assert (RUNNING.attempt, RUNNING.started_at, RUNNING.wait_s) == (1, AT, 0.5)
    assert (RUNNING.attempts[0].worker_id, RUNNING.attempts[0].boot_id) == ("w1", "b1")
    spawned = applied_to_task(RUNNING, TaskSpawned(at=AT, task_id="t", attempt=1, pid=7, pid_started_at=8), 3)
    ended = applied_to_task(
        spawned, TaskFinished(at=LATER, task_id="t", state=State.FAILED, cause=CAUSE, end=END, result=[1]), 4
    )
    assert (ended.ended_at, ended.duration_s, ended.result, ended.cause) == (LATER, 1.5, [1], CAUSE)
    (attempt,) = ended.attempts
    assert (attempt.pid, attempt.pid_started_at, attempt.exit_code, attempt.ended_at) == (7, 8, 3, LATER)
    assert (attempt.cause, attempt.output_bytes) == (CAUSE, 9)


def test_a_retry_queues_the_same_task_and_keeps_both_attempts() -> None:
    again = applied_to_task(RUNNING, TaskRetried(at=LATER, task_id="t", end=END, next_attempt_at=LATER), 3)
    assert (again.state, again.cause, again.next_attempt_at, again.queued_at) == (State.QUEUED, CAUSE, LATER, LATER)
    second = applied_to_task(again, replace(STARTED, attempt=2, wait_s=7.0), 4)
    assert [attempt.n for attempt in second.attempts] == [1, 2]
    assert (second.started_at, second.wait_s, second.cause, second.next_attempt_at) == (AT, 0.5, None, None)


def test_progress_sets_what_it_says_and_keeps_the_rest() -> None:
    one = applied_to_task(RUNNING, TaskProgress(at=AT, task_id="t", progress=10.0, phase="fetch"), 3)
    two = applied_to_task(one, TaskProgress(at=AT, task_id="t", progress=0.0, items_processed=0), 4)
    assert (two.progress, two.phase, two.items_processed) == (0.0, "fetch", 0)


def test_a_question_is_carried_until_it_is_answered_or_the_task_ends() -> None:
    asking = applied_to_task(RUNNING, TaskAwaiting(at=AT, task_id="t", awaiting=QUESTION), 3)
    assert asking.awaiting == QUESTION
    assert applied_to_task(asking, TaskAwaiting(at=AT, task_id="t"), 4).awaiting is None
    assert applied_to_task(asking, TaskRetried(at=AT, task_id="t", end=END), 4).awaiting is None


def test_the_first_intent_to_stop_is_the_one_that_counts() -> None:
    one = applied_to_task(RUNNING, TaskStopRequested(at=AT, task_id="t", cause=STOP), 3)
    two = applied_to_task(one, TaskStopRequested(at=LATER, task_id="t", cause=CAUSE), 4)
    assert (two.state, two.stop_cause, two.cancel_requested_at, two.seq) == (State.RUNNING, STOP, AT, 4)


def test_a_repeated_submit_is_given_the_first_answer() -> None:
    for first in (QUEUED, WAITING):
        task = applied_to_task(None, TaskCreated(at=AT, task_id="t", task=first), 1)
        answer = task
        steps: list[TaskEvent] = [] if first is QUEUED else [TaskQueued(at=LATER, task_id="t")]
        steps += [
            STARTED,
            TaskProgress(at=AT, task_id="t", progress=1.0, phase="p", message="m", items_processed=1, items_failed=1),
            TaskAwaiting(at=AT, task_id="t", awaiting=QUESTION),
            TaskStopRequested(at=AT, task_id="t", cause=STOP),
            TaskFinished(at=LATER, task_id="t", state=State.CANCELLED, cause=STOP, end=END, result={"r": 1}),
        ]
        for seq, event in enumerate(steps, 2):
            task = applied_to_task(task, event, seq)
            assert replace(created(task), seq=1) == answer


@pytest.mark.parametrize("event", [event for event, _ in EVENTS], ids=NAMES)
def test_an_event_survives_being_written(event: TaskEvent) -> None:
    record = msgspec.json.encode(event)
    assert decoded(record) == event
    assert msgspec.json.decode(record)["type"] == type_of(event) in EVENT_TYPES


def test_fields_of_a_newer_version_are_passed_over() -> None:
    assert decoded(b'{"type":"task.queued","at":"x","task_id":"t","colour":"red","seq":4,"crc":"0"}') == TaskQueued(
        at="x", task_id="t"
    )


def test_events_of_a_newer_version_are_kept_and_change_nothing() -> None:
    event = decoded(b'{"type":"task.dreamt","at":"x","task_id":"t"}')
    assert event == Unknown(at="x")
    assert applied_to_session(SESSION, event, 5) == replace(SESSION, updated_at="x", seq=5)


@pytest.mark.parametrize(
    "record", [b"", b"{", b"[]", b'{"at":"x"}', b'{"type":"task.queued"}', b'{"type":"task.queued","at":1}']
)
def test_a_record_that_is_no_event_is_an_error(record: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decoded(record)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (SessionUpdated(at=LATER, changes=SessionChanges(title="T")), {"title": "T"}),
        (SessionUpdated(at=LATER, changes=SessionChanges(title=None, labels={})), {"title": None, "labels": {}}),
        (SessionUpdated(at=LATER, changes=SessionChanges(policy=WIDE)), {"policy": WIDE}),
        (SessionArchived(at=LATER, archived=True), {"archived": True}),
        (SessionPruned(at=LATER, tasks=("t",)), {"updated_at": SESSION.updated_at}),
    ],
)  # fmt: skip
def test_an_event_changes_a_session_where_it_says_so(event: Event, expected: dict[str, Any]) -> None:
    session = replace(SESSION, title="before")
    after = applied_to_session(session, decoded(msgspec.json.encode(event)), 7)
    assert after == replace(session, **{"updated_at": LATER, "seq": 7, **expected})
