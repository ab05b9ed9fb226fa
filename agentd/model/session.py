"""A session: the directory that tasks share, and the unit of ownership, order and retention."""

from __future__ import annotations

from enum import StrEnum

from msgspec import UNSET, UnsetType

from agentd.model.task import Value


class Keep(Value, frozen=True, kw_only=True):
    """How much of something is kept; `None` is no limit. What is over any of the limits goes, oldest first."""

    max_age_s: float | None = None
    max_count: int | None = None
    max_bytes: int | None = None


class Retention(Value, frozen=True, kw_only=True):
    """Limits for finished tasks (records and journal), their output, and whole sessions, apart."""

    tasks: Keep = Keep()
    output: Keep = Keep()
    sessions: Keep = Keep()


class Budget(Value, frozen=True, kw_only=True):
    """What all attempts of a session may use together; `None` is no limit."""

    max_cost_usd: float | None = None
    max_tokens: int | None = None  #: input and output
    max_wall_s: float | None = None


class Policy(Value, frozen=True, kw_only=True):
    """How a session runs and how long it is kept."""

    max_parallel: int = 1
    timeout_s: float | None = None  #: from the first unfinished task's creation to the end of the last
    tasks_kept: int = 100  #: finished tasks that stay in tasks.json; all are in history/
    pinned: bool = False  #: retention never touches it
    retention: Retention | None = None  #: instead of the daemon's
    budget: Budget | None = None


class SessionUsage(Value, frozen=True, kw_only=True):
    """What all ended attempts of a session used together, those whose tasks retention took as well.

    `max_rss_bytes` is the largest process of any of them.
    """

    attempts: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    max_rss_bytes: int = 0
    output_bytes: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


class Session(Value, frozen=True, kw_only=True):
    """What metadata.json says, and `usage`. `updated_at` is the last activity, a task's too; `seq` the last change of
    its own.
    """

    session_id: str
    title: str | None = None
    labels: dict[str, str] = {}
    policy: Policy = Policy()
    owner: str | None = None
    archived: bool = False
    conversations: dict[str, str] = {}  #: ids by agent
    usage: SessionUsage | None = None  #: None: it was made by a version that did not sum it
    created_at: str
    updated_at: str
    seq: int = 0


class SessionState(StrEnum):
    """Derived from a session's tasks: one runs; some are queued or waiting; none; the journal is damaged."""

    WORKING = "working"
    QUEUED = "queued"
    IDLE = "idle"
    DAMAGED = "damaged"


class SessionChanges(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an edit of a session sets; what is absent stays."""

    title: str | UnsetType | None = UNSET
    labels: dict[str, str] | UnsetType = UNSET
    policy: Policy | UnsetType = UNSET
    archived: bool | UnsetType = UNSET
