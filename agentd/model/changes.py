"""What each event makes of a session and its tasks.

The running daemon and the recovery both change values only through `applied_to_task` and `applied_to_session`, so
replaying a journal gives exactly what was shown.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from agentd.errors import InvalidTransition
from agentd.model.events import (
    AttemptEnd,
    Event,
    SessionArchived,
    SessionConversation,
    SessionPruned,
    SessionUpdated,
    TaskAnswered,
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
    type_of,
)
from agentd.model.session import Session, SessionUsage
from agentd.model.task import TERMINAL, Attempt, State, Task, Transition, Usage
from agentd.model.transitions import INITIAL, moved

PROGRESS_FIELDS = ("progress", "phase", "message", "items_processed", "items_failed")


def applied_to_session(session: Session, event: Event, seq: int) -> Session:
    """The session after an event of its own that is not its creation."""
    session = active(session, event)
    match event:
        case SessionUpdated(changes=changes):
            given = {k: v for k, v in msgspec.structs.asdict(changes).items() if v is not msgspec.UNSET}
            return replace(session, **given, seq=seq)
        case SessionArchived(archived=archived):
            return replace(session, archived=archived, seq=seq)
        case SessionConversation(agent=agent, conversation_id=conversation_id):
            return replace(session, conversations={**session.conversations, agent: conversation_id}, seq=seq)
        case _:
            return replace(session, seq=seq)


def active(session: Session, event: Event) -> Session:
    """The session with its last activity and what it has used, after any event of its journal.

    Retention is nobody's activity: what it empties must still age.
    """
    if isinstance(event, (TaskFinished, TaskRetried)):
        session = replace(session, usage=used(session.usage, event.end))
    if event.at <= session.updated_at or isinstance(event, SessionPruned):
        return session
    return replace(session, updated_at=event.at)


def used(before: SessionUsage | None, end: AttemptEnd | None) -> SessionUsage | None:
    """What a session has used, with one more attempt. Where it was not summed from the beginning, it never is."""
    if before is None or end is None:
        return before
    usage = end.usage or Usage()
    return SessionUsage(
        attempts=before.attempts + 1,
        wall_s=round(before.wall_s + (end.duration_s or 0.0), 6),
        cpu_s=round(before.cpu_s + (usage.user_s or 0.0) + (usage.system_s or 0.0), 6),
        max_rss_bytes=max(before.max_rss_bytes, usage.max_rss_bytes or 0),
        output_bytes=before.output_bytes + (end.output_bytes or 0),
        input_tokens=before.input_tokens + (usage.input_tokens or 0),
        output_tokens=before.output_tokens + (usage.output_tokens or 0),
        cost_usd=round(before.cost_usd + (usage.cost_usd or 0.0), 9),
    )


def applied_to_task(task: Task | None, event: TaskEvent, seq: int) -> Task:
    """The task after the event; `task` is None for its creation.

    Raises:
        InvalidTransition: the event does not fit the task's state.
    """
    if isinstance(event, TaskCreated):
        if task is not None or event.task.state not in INITIAL:
            raise InvalidTransition(f"task {event.task_id} cannot be created as {event.task.state}")
        return replace(event.task, seq=seq)
    if task is None:
        raise InvalidTransition(f"task {event.task_id} does not exist")
    if not _fits(event, task.state):
        raise InvalidTransition(f"task {task.task_id} is {task.state}; {type_of(event)} does not apply to it")
    match event:
        case TaskQueued():
            return moved(task, State.QUEUED, at=event.at, queued_at=event.at, seq=seq)
        case TaskStarted():
            attempt = Attempt(n=event.attempt, worker_id=event.worker_id, boot_id=event.boot_id, started_at=event.at)
            return moved(
                task,
                State.RUNNING,
                at=event.at,
                attempt=event.attempt,
                attempts=(*task.attempts, attempt),
                started_at=task.started_at or event.at,
                wait_s=event.wait_s if task.wait_s is None else task.wait_s,
                next_attempt_at=None,
                answered=None,
                seq=seq,
            )
        case TaskFinished():
            return moved(
                task,
                event.state,
                at=event.at,
                cause=event.cause,
                attempts=_ended(task, event.end, event.at),
                ended_at=event.at,
                duration_s=event.end.duration_s if event.end else None,
                result=event.result,
                next_attempt_at=None,
                awaiting=None,
                seq=seq,
            )
        case TaskRetried():
            return moved(
                task,
                State.QUEUED,
                at=event.at,
                cause=event.end.cause,
                attempts=_ended(task, event.end, event.at),
                queued_at=event.at,
                next_attempt_at=event.next_attempt_at,
                awaiting=None,
                seq=seq,
            )
    if task.state is not State.RUNNING:
        raise InvalidTransition(f"task {task.task_id} is {task.state}, not running")
    match event:
        case TaskSpawned(pid=pid, pid_started_at=started):
            last = replace(task.attempts[-1], pid=pid, pid_started_at=started)
            return replace(task, attempts=(*task.attempts[:-1], last), seq=seq)
        case TaskProgress():
            given = {f: getattr(event, f) for f in PROGRESS_FIELDS if getattr(event, f) is not None}
            if event.usage is not None:
                last = task.attempts[-1]
                last = replace(last, usage=reported(last.usage, event.usage))
                given["attempts"] = (*task.attempts[:-1], last)
            return replace(task, **given, seq=seq)
        case TaskAwaiting(awaiting=awaiting):
            return replace(task, awaiting=awaiting, seq=seq)
        case TaskAnswered(answered=answered):
            return replace(task, awaiting=None, answered=answered, seq=seq)
        case TaskStopRequested(cause=cause):
            if task.stop_cause is not None:
                return replace(task, seq=seq)
            return replace(task, cancel_requested_at=event.at, stop_cause=cause, seq=seq)
    raise InvalidTransition(f"no rule for {type_of(event)}")


def _fits(event: TaskEvent, state: State) -> bool:
    """What the table alone cannot tell: which of two ways into `queued` this is, and that an end is one."""
    match event:
        case TaskQueued():
            return state is State.WAITING
        case TaskRetried():
            return state is State.RUNNING
        case TaskFinished(state=end):
            return end in TERMINAL
    return True


def created(task: Task) -> Task:
    """The task as its creation recorded it: what the first answer to its submit said."""
    first = task.transitions[0]
    return replace(
        task,
        state=first.state,
        cause=None,
        attempt=0,
        attempts=(),
        progress=None,
        phase=None,
        message=None,
        items_processed=None,
        items_failed=None,
        result=None,
        queued_at=first.at if first.state is State.QUEUED else None,
        started_at=None,
        ended_at=None,
        duration_s=None,
        wait_s=None,
        next_attempt_at=None,
        cancel_requested_at=None,
        stop_cause=None,
        awaiting=None,
        answered=None,
        transitions=(first,),
    )


def reported(usage: Usage | None, told: Usage | None) -> Usage | None:
    """What an attempt used, with what was told of it since."""
    if usage is None or told is None:
        return told or usage
    given = {name: value for name, value in msgspec.structs.asdict(told).items() if value not in (None, msgspec.UNSET)}
    return replace(usage, **given)


def new_task(task: Task, *, at: str, waiting: bool) -> Task:
    """The task in its first state, created now: ready for a TaskCreated event."""
    state = State.WAITING if waiting else State.QUEUED
    return replace(
        task,
        state=state,
        created_at=at,
        queued_at=None if waiting else at,
        transitions=(Transition(state=state, at=at, attempt=0),),
    )


def _ended(task: Task, end: AttemptEnd | None, at: str) -> tuple[Attempt, ...]:
    if task.state is not State.RUNNING or end is None:
        return task.attempts
    running = task.attempts[-1]
    last = replace(
        running,
        ended_at=at,
        cause=end.cause,
        exit_code=end.cause.exit_code,
        signal=end.cause.signal,
        duration_s=end.duration_s,
        pid=end.pid if end.pid is not None else running.pid,
        pid_started_at=end.pid_started_at if end.pid_started_at is not None else running.pid_started_at,
        usage=end.usage if end.usage is not None else running.usage,
        output_bytes=end.output_bytes,
    )
    return (*task.attempts[:-1], last)
