"""What happened: the records of the journal, and what the daemon announces of itself.

`changes.py` says what each event makes of a session and its tasks.
"""

from __future__ import annotations

from typing import Any

import msgspec

from agentd.model.event import Event as Event
from agentd.model.reading import read
from agentd.model.run_events import RunCancelRequested, RunCreated, RunEnded, RunResumed, RunStepEnded, RunStepRefused
from agentd.model.session import Session, SessionChanges
from agentd.model.task import Answer, Cause, Question, State, Task, Usage, Value


class SessionEvent(Event, frozen=True, kw_only=True):
    """A change of the session itself."""


class TaskEvent(Event, frozen=True, kw_only=True):
    """A change of one task."""

    task_id: str


class SessionCreated(SessionEvent, tag="session.created", frozen=True, kw_only=True):
    """The session exists. The hashes stand for the Idempotency-Key and body of the request, if it had a key."""

    session: Session
    key_hash: str | None = None
    body_hash: str | None = None


class SessionUpdated(SessionEvent, tag="session.updated", frozen=True, kw_only=True):
    """Title, labels or policy were set, over the API or by an edit of metadata.json."""

    changes: SessionChanges
    source: str = "api"


class SessionArchived(SessionEvent, tag="session.archived", frozen=True, kw_only=True):
    """The session was archived, or brought back."""

    archived: bool


class SessionConversation(SessionEvent, tag="session.conversation", frozen=True, kw_only=True):
    """The session's conversation with an agent has this id from now on; the next task of that agent continues it."""

    agent: str
    conversation_id: str


class SessionEditRefused(SessionEvent, tag="session.edit_refused", frozen=True, kw_only=True):
    """An edit of metadata.json by hand was not valid; the file was put back and the text kept beside it."""

    reason: str
    kept_as: str


class SessionPruned(SessionEvent, tag="session.pruned", frozen=True, kw_only=True):
    """Retention removed finished tasks (their records) or output; what it removed is named."""

    tasks: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    bytes: int = 0


class TaskCreated(TaskEvent, tag="task.created", frozen=True, kw_only=True):
    """A task was accepted, waiting or queued. The hashes stand for the Idempotency-Key and body, if there was a key.

    Of a batch, the first task carries them, and says how many tasks, itself and those that follow, are there together
    or not at all. That comes last in the record, where the journal looks for it.
    """

    task: Task
    key_hash: str | None = None
    body_hash: str | None = None
    batch: int = 1


class TaskQueued(TaskEvent, tag="task.queued", frozen=True, kw_only=True):
    """A waiting task's start time and dependencies have come."""


class TaskStarted(TaskEvent, tag="task.started", frozen=True, kw_only=True):
    """An attempt was claimed for a worker; durable before anything is launched."""

    attempt: int
    worker_id: str
    boot_id: str
    wait_s: float | None = None


class TaskSpawned(TaskEvent, tag="task.spawned", frozen=True, kw_only=True):
    """The attempt's process is known. Short attempts end before this is worth a record."""

    attempt: int
    pid: int
    pid_started_at: int


class TaskProgress(TaskEvent, tag="task.progress", frozen=True, kw_only=True):
    """The task told how far it is; what is absent stays."""

    progress: float | None = None
    phase: str | None = None
    message: str | None = None
    items_processed: int | None = None
    items_failed: int | None = None
    usage: Usage | None = None


class TaskAwaiting(TaskEvent, tag="task.awaiting", frozen=True, kw_only=True):
    """The task asks its user something, or (`None`) no longer does."""

    awaiting: Question | None = None


class TaskAnswered(TaskEvent, tag="task.answered", frozen=True, kw_only=True):
    """What the task asked was answered."""

    answered: Answer


class TaskStopRequested(TaskEvent, tag="task.stop_requested", frozen=True, kw_only=True):
    """A running task was asked to stop; `cause` is the intent, which decides over the exit code."""

    cause: Cause


class AttemptEnd(Value, omit_defaults=True, frozen=True, kw_only=True):
    """How an attempt ended."""

    cause: Cause
    duration_s: float | None = None
    pid: int | None = None
    pid_started_at: int | None = None
    usage: Usage | None = None
    output_bytes: int | None = None


class TaskFinished(TaskEvent, tag="task.finished", frozen=True, kw_only=True):
    """The task is terminal; `end` is there when an attempt was running."""

    state: State
    cause: Cause
    end: AttemptEnd | None = None
    result: Any = None


class TaskRetried(TaskEvent, tag="task.retried", frozen=True, kw_only=True):
    """The attempt ended and another follows, not before the given time."""

    end: AttemptEnd
    next_attempt_at: str | None = None


class Unknown(Event, tag="?", frozen=True, kw_only=True):
    """A record of a type this version does not know; it is kept and passed over."""


KnownEvent = (
    SessionCreated
    | SessionUpdated
    | SessionArchived
    | SessionConversation
    | SessionEditRefused
    | SessionPruned
    | TaskCreated
    | TaskQueued
    | TaskStarted
    | TaskSpawned
    | TaskProgress
    | TaskAwaiting
    | TaskAnswered
    | TaskStopRequested
    | TaskFinished
    | TaskRetried
    | RunCreated
    | RunStepEnded
    | RunStepRefused
    | RunCancelRequested
    | RunResumed
    | RunEnded
)

_decoder = msgspec.json.Decoder(KnownEvent)


def type_of(event: Event) -> str:
    """The event's name, as in `task.started`."""
    return str(type(event).__struct_config__.tag)


def decoded(record: bytes) -> Event:
    """The event in a journal record; fields this version does not know are passed over.

    Raises:
        msgspec.MsgspecError: not JSON, or a known type with fields of the wrong kind.
    """
    try:
        event: Event = _decoder.decode(record)
        return event
    except msgspec.ValidationError:
        loose = read(record, _Loose)
        if loose.type in EVENT_TYPES:
            raise
        return Unknown(at=loose.at)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


class _Loose(Value, frozen=True, kw_only=True):
    type: str
    at: str = ""


EVENT_TYPES: frozenset[str] = frozenset(str(cls.__struct_config__.tag) for cls in KnownEvent.__args__)


class AgentEvent(Event, frozen=True, kw_only=True):
    """Something the daemon announces on `/events`; no session's journal holds it."""


class SessionDeleted(AgentEvent, tag="session.deleted", frozen=True, kw_only=True):
    """The session and its directory are gone."""

    session_id: str


class SessionImported(AgentEvent, tag="session.imported", frozen=True, kw_only=True):
    """A session was made of an archive; its journal ends at `seq` for now."""

    session_id: str
    seq: int


class SessionQuarantined(AgentEvent, tag="session.quarantined", frozen=True, kw_only=True):
    """The session's journal is damaged or its disk failed; it is read-only."""

    session_id: str
    reason: str


class WorkerStarted(AgentEvent, tag="worker.started", frozen=True, kw_only=True):
    """A worker process is ready."""

    worker_id: str
    pid: int


class WorkerLost(AgentEvent, tag="worker.lost", frozen=True, kw_only=True):
    """A worker process ended or went silent without being asked."""

    worker_id: str
    pid: int
    task_id: str | None = None
    reason: str = ""


class WorkerDegraded(AgentEvent, tag="worker.degraded", frozen=True, kw_only=True):
    """Workers are lost faster than `workers.max_restarts` a minute (`degraded`), or no longer (`not degraded`)."""

    degraded: bool
    restarts: int


class AgentRecovered(AgentEvent, tag="agent.recovered", frozen=True, kw_only=True):
    """What the start found and did; all zero after a clean stop."""

    boot_id: str
    clean: bool
    sessions: int
    interrupted: int
    requeued: int
    cancelled: int
    torn: int
    damaged: int
    killed: int
    took_s: float


class AgentDraining(AgentEvent, tag="agent.draining", frozen=True, kw_only=True):
    """No task starts any more; running ones have `drain_s`."""

    drain_s: float


ANNOUNCED: tuple[type[AgentEvent], ...] = tuple(AgentEvent.__subclasses__())
