"""What clients ask and are answered: the bodies and queries of the API, shared by server and client.

Constraints stand in the types, so that validation and the OpenAPI document cannot differ.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Generic, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from agentd.model.ids import SESSION_ID
from agentd.model.session import Budget, Keep, Retention, Session, SessionState
from agentd.model.task import CauseCode, OnInterrupt, Retry, State, Task, Trigger, TriggerType, Value

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Labels = Annotated[
    dict[
        Annotated[str, Meta(min_length=1, max_length=63, extra_json_schema={"pattern": "^[^=]+$"})],
        Annotated[str, Meta(max_length=256)],
    ],
    Meta(max_length=64),
]
Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]
QueueName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,63}$(?!\n)")]
#: What the service checks itself, as the document says it.
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
#: A relative path of one to 32 names; `store/inside.py` checks it.
_NAME = r"(?!\.{1,2}(/|$)|\.agentd-tmp-)[^/\u0000-\u001f\u007f-\u009f]+"
PATH = f"^{_NAME}(/{_NAME}){{0,31}}$"
SessionId = Annotated[str, Meta(extra_json_schema={"pattern": f"^{SESSION_ID}$"})]
T = TypeVar("T")
V = TypeVar("V", bound=Value)


class Request(Value, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A body sent by a client: an unknown field is an error that names it."""


def at_least_one(**types: str) -> dict[str, Any]:
    """The JSON Schema of an object that has one of these fields, of these types.

    As `RULES` of a body it says in the document what the types of the fields cannot.
    """
    return {"anyOf": [{"required": [name], "properties": {name: {"type": kind}}} for name, kind in types.items()]}


class AskedRetry(Retry, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A retry as clients may ask for it."""

    max: Annotated[int, Meta(ge=0, le=1000, description="Attempts after the first, at most.")] = 0
    on: Annotated[tuple[CauseCode, ...], Meta(description="Causes that another attempt follows.")] = Retry().on
    backoff_s: Annotated[float, Meta(ge=0, le=86_400, description="Seconds before the first retry.")] = 1.0
    factor: Annotated[float, Meta(ge=1, le=100, description="Each pause is so many times the one before.")] = 2.0
    max_backoff_s: Annotated[float, Meta(ge=0, le=86_400, description="Seconds of a pause, at most.")] = 300.0
    jitter: Annotated[float, Meta(ge=0, le=1, description="Part of a pause that is left to chance.")] = 0.1


class AskedTrigger(Trigger, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A trigger as clients may name it."""

    type: Annotated[TriggerType, Meta(description="What made it.")] = TriggerType.API
    source: Annotated[
        Annotated[str, Meta(max_length=200)] | None, Meta(description="Which one; without it the token's name.")
    ] = None


class AskedKeep(Keep, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Limits as clients may set them."""

    max_age_s: Annotated[float, Meta(ge=0)] | None = None
    max_count: Annotated[int, Meta(ge=0)] | None = None
    max_bytes: Annotated[int, Meta(ge=0)] | None = None


class AskedRetention(Retention, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A retention as clients may set it."""

    tasks: AskedKeep = AskedKeep()
    output: AskedKeep = AskedKeep()
    sessions: AskedKeep = AskedKeep()


class AskedBudget(Budget, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A budget as clients may set it."""

    max_cost_usd: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    max_tokens: Annotated[int, Meta(ge=0, le=1 << 53)] | None = None
    max_wall_s: Annotated[float, Meta(ge=0, le=1e9)] | None = None


def plain(asked: Value, kind: type[V]) -> V:
    """What was asked for, as the value of the model that it stands for."""
    return msgspec.convert(msgspec.to_builtins(asked), kind)


class PolicyChanges(Request, frozen=True, kw_only=True):
    """Parts of a session's policy; what is absent stays (or is the default, in a create)."""

    max_parallel: Annotated[int, Meta(ge=1, le=1000)] | UnsetType = UNSET
    timeout_s: Seconds | UnsetType | None = UNSET
    tasks_kept: Annotated[int, Meta(ge=0, le=10_000)] | UnsetType = UNSET
    pinned: bool | UnsetType = UNSET
    retention: AskedRetention | UnsetType | None = UNSET
    budget: AskedBudget | UnsetType | None = UNSET


class NewSession(Request, frozen=True, kw_only=True):
    """Body of POST /sessions."""

    session_id: SessionId | None = None
    title: Name | None = None
    labels: Labels = {}
    policy: PolicyChanges = PolicyChanges()


class SessionPatch(Request, frozen=True, kw_only=True):
    """Body of PATCH /sessions/{id}; what is absent stays."""

    title: Name | UnsetType | None = UNSET
    labels: Labels | UnsetType = UNSET
    policy: PolicyChanges | UnsetType = UNSET
    archived: bool | UnsetType = UNSET


class NewTask(Request, frozen=True, kw_only=True):
    """Body of POST /sessions/{id}/task, and of POST /tasks, where `session_id` may name the session."""

    kind: Annotated[str, Meta(description="What kind of task it is.")] = "shell"
    spec: Annotated[dict[str, Any], Meta(description="What to run, in the form of its kind.")]
    session_id: Annotated[SessionId | None, Meta(description="Session, made if absent; without it one of its own.")] = (
        None
    )
    name: Annotated[Name | None, Meta(description="What lists call it.")] = None
    needs: Annotated[
        tuple[str, ...], Meta(max_length=1000, description="Ids of tasks that must complete before it starts.")
    ] = ()
    priority: Annotated[int, Meta(ge=-1000, le=1000, description="Higher runs first within its session.")] = 0
    queue: Annotated[QueueName, Meta(description="Queue that it waits in.")] = "default"
    labels: Annotated[Labels, Meta(description="Keys and values to find it by.")] = {}
    trigger: Annotated[AskedTrigger, Meta(description="What made it, for your information.")] = AskedTrigger()
    timeout_s: Annotated[Seconds | None, Meta(description="Seconds after which an attempt is ended.")] = None
    retry: Annotated[AskedRetry | None, Meta(description="Whether a failed attempt is followed by another.")] = None
    on_interrupt: Annotated[OnInterrupt, Meta(description="What follows when the daemon dies under it.")] = (
        OnInterrupt.FAIL
    )
    max_output_bytes: Annotated[
        Annotated[int, Meta(ge=1, le=1 << 53)] | None, Meta(description="Bytes of output after which it is ended.")
    ] = None
    artifacts: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=500, extra_json_schema={"pattern": PATH})], ...],
        Meta(max_length=50, description="Patterns of files in the workspace that become artifacts at its end."),
    ] = ()
    not_before: Annotated[Time | None, Meta(description="Start no earlier than this RFC 3339 time.")] = None


#: Tasks that one POST may bring.
BATCH_MOST = 1000


class Batch(Value, frozen=True, kw_only=True):
    """The tasks that one request made, in its order."""

    data: tuple[Task, ...]


class Scale(Request, frozen=True, kw_only=True):
    """Body of POST /workers/scale; what is absent stays, and one is there."""

    RULES: ClassVar[dict[str, Any]] = at_least_one(min="integer", max="integer")

    min: Annotated[int, Meta(ge=0, le=1000)] | None = None
    max: Annotated[int, Meta(ge=1, le=1000)] | None = None


class SessionView(Session, frozen=True, kw_only=True):
    """A session as the API shows it: metadata.json and what is derived."""

    state: SessionState = SessionState.IDLE
    counts: dict[str, int] = {}  #: tasks by state; of the finished ones, those still in tasks.json
    reason: str | None = None  #: why it is damaged
    tasks: tuple[Task, ...] | UnsetType = UNSET  #: only where one session is asked for


class Page(Value, Generic[T], frozen=True, kw_only=True):
    """One page of a list; `next` is the cursor of the following one."""

    data: tuple[T, ...]
    next: str | None = None


class Window(Value, frozen=True, kw_only=True):
    """Which page: at most `limit` rows after `cursor`."""

    limit: int = 100
    cursor: str | None = None


#: The orders that lists have.
SESSION_SORTS = ("-updated_at", "updated_at", "-created_at", "created_at", "session_id")
TASK_SORTS = ("-created_at", "created_at")


class SessionQuery(Window, frozen=True, kw_only=True):
    """Filters of GET /sessions; `sort` is a field of -updated_at, updated_at, -created_at, created_at, session_id."""

    state: tuple[SessionState, ...] = ()
    label: tuple[str, ...] = ()  #: `key` or `key=value`; all must match
    q: str | None = None  #: in the id or the title, case ignored
    since: Time | None = None  #: updated at or after
    archived: bool | None = False
    sort: Annotated[str, Meta(extra_json_schema={"enum": list(SESSION_SORTS)})] = "-updated_at"


class TaskQuery(Window, frozen=True, kw_only=True):
    """Filters of GET /tasks, /sessions/{id}/tasks and /history; newest first (`sort=created_at` for oldest first)."""

    state: tuple[State, ...] = ()
    kind: tuple[str, ...] = ()
    cause: tuple[CauseCode, ...] = ()
    trigger: tuple[TriggerType, ...] = ()  #: of this type
    label: tuple[str, ...] = ()
    queue: str | None = None
    q: str | None = None  #: in the name or the command, case ignored
    since: Time | None = None  #: created at or after
    until: Time | None = None  #: created before
    prefix: str | None = None  #: of the task id
    parent: str | None = None  #: submitted by this task
    awaiting: bool | None = None  #: whether it awaits an answer
    sort: Annotated[str, Meta(extra_json_schema={"enum": list(TASK_SORTS)})] = "-created_at"


class Created(Value, Generic[T], frozen=True, kw_only=True):
    """What a create made; `replayed` when it is the first answer given again."""

    value: T
    replayed: bool = False


class Key(Value, frozen=True, kw_only=True):
    """An Idempotency-Key and the body it came with, both as hashes."""

    key_hash: str
    body_hash: str


class WorkerView(Value, frozen=True, kw_only=True):
    """One worker of the pool; `state` is starting, idle, busy or lost."""

    worker_id: str
    pid: int
    state: str
    task_id: str | None = None
    started_at: str
    tasks_done: int = 0
    restarts: int = 0


class QueueItem(Value, frozen=True, kw_only=True):
    """One task that is queued or waiting, and what it waits for."""

    task_id: str
    session_id: str
    state: State
    queue: str
    priority: int
    position: int | None  #: 0 runs next; None while it could not run
    reason: str
    created_at: str


class QueueView(Value, frozen=True, kw_only=True):
    """GET /queue. `depth` counts all rows, of which `data` is one page."""

    depth: int
    waiting: int
    oldest_age_s: float | None
    data: tuple[QueueItem, ...]
    next: str | None = None


class ArtifactView(Value, frozen=True, kw_only=True):
    """A file of the session's artifacts."""

    path: str
    size: int
    modified_at: str
