"""What lists show, filter and order, and their cursors: pure functions."""

from __future__ import annotations

import base64
import binascii
import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from agentd.clock import epoch, rfc3339
from agentd.errors import Invalid, Malformed
from agentd.model.requests import Page, SessionQuery, SessionView, TaskQuery
from agentd.model.session import Session, SessionState
from agentd.model.task import State, Task
from agentd.store.entry import Entry

T = TypeVar("T")


def cursor_of(of: str, key: Any) -> str:
    """An opaque cursor: which list in which order it is of, and the sort key of the last row of a page."""
    return base64.urlsafe_b64encode(msgspec.json.encode((of, key))).decode().rstrip("=")


def key_in(cursor: str, of: str, shape: type[T]) -> T:
    """The key that `cursor_of` packed for this list and order.

    Raises:
        Malformed: the cursor is not one of ours, or of another list or order.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        packed = base64.b64decode(padded, altchars=b"-_", validate=True)
        given, key = msgspec.json.decode(packed, type=tuple[str, msgspec.Raw])
        if given == of:
            return msgspec.json.decode(key, type=shape)
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise Malformed.field("cursor", "is not a cursor of this list; start again without it") from error
    raise Malformed.field("cursor", "is of another list or order; start again without it")


def paged(
    rows: Iterable[T], key: Callable[[T], tuple[str, str]], *, of: str, limit: int, cursor: str | None, descending: bool
) -> Page[T]:
    """One keyset page of rows in key order; `of` names the list and its order."""
    if cursor is not None:
        last = key_in(cursor, of, tuple[str, str])
        rows = [row for row in rows if (key(row) < last if descending else key(row) > last)]
    return page_of((heapq.nlargest if descending else heapq.nsmallest)(limit + 1, rows, key=key), key, of, limit)


def page_of(first: Sequence[T], key: Callable[[T], tuple[str, str]], of: str, limit: int) -> Page[T]:
    """The page of what was found first; one row over the limit says that there are more."""
    page = first[:limit]
    return Page(data=tuple(page), next=cursor_of(of, key(page[-1])) if len(first) > limit else None)


def check_sort(sort: str, allowed: Sequence[str]) -> tuple[str, bool]:
    """The field and whether it descends.

    Raises:
        Malformed: not a sort of this list.
    """
    if sort not in allowed:
        raise Malformed.field("sort", f"must be one of {', '.join(allowed)}")
    return sort.removeprefix("-"), sort.startswith("-")


def moment(field: str, time: str | None) -> str | None:
    """The time as the store writes times, so that text order is time order.

    Raises:
        Malformed: not a time; it names the field.
    """
    if time is None:
        return None
    try:
        return rfc3339(epoch(time))
    except (ValueError, OverflowError) as error:
        raise Malformed.field(field, "must be an RFC 3339 time with an offset, as 2030-01-31T09:00:00Z") from error


def with_times(query: TaskQuery) -> TaskQuery:
    """The query with its times as the store writes them.

    Raises:
        Malformed: one is no time.
    """
    return replace(query, since=moment("since", query.since), until=moment("until", query.until))


def labels_match(labels: dict[str, str], wanted: Sequence[str]) -> bool:
    """Whether all of `key` or `key=value` are there."""
    for each in wanted:
        key, equals, value = each.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def session_matches(session: Session, query: SessionQuery) -> bool:
    """Whether a session is in the list that the query asks for, whatever its state."""
    if query.archived is not None and session.archived is not query.archived:
        return False
    if query.since is not None and session.updated_at < query.since:
        return False
    if query.q is not None:
        text = query.q.casefold()
        if text not in session.session_id.casefold() and text not in (session.title or "").casefold():
            return False
    return not query.label or labels_match(session.labels, query.label)


def task_matches(task: Task, query: TaskQuery) -> bool:
    """Whether a task is in the list that the query asks for."""
    if query.state and task.state not in query.state:
        return False
    if query.kind and task.kind not in query.kind:
        return False
    if query.cause and (task.cause is None or task.cause.code not in query.cause):
        return False
    if query.trigger and task.trigger.type not in query.trigger:
        return False
    if query.queue is not None and task.queue != query.queue:
        return False
    if query.since is not None and task.created_at < query.since:
        return False
    if query.until is not None and task.created_at >= query.until:
        return False
    if query.prefix is not None and not task.task_id.startswith(query.prefix):
        return False
    if query.parent is not None and task.parent_id != query.parent:
        return False
    if query.awaiting is not None and (task.awaiting is not None) is not query.awaiting:
        return False
    if query.q is not None:
        text = query.q.casefold()
        command = task.spec.get("command") or " ".join(map(str, task.spec.get("argv") or ()))
        if text not in (task.name or "").casefold() and text not in str(command).casefold():
            return False
    return not query.label or labels_match(task.labels, query.label)


def session_state(counts: dict[str, int], reason: str | None) -> SessionState:
    """What a session's tasks make of it."""
    if reason is not None:
        return SessionState.DAMAGED
    if counts.get(State.RUNNING):
        return SessionState.WORKING
    if counts.get(State.QUEUED) or counts.get(State.WAITING):
        return SessionState.QUEUED
    return SessionState.IDLE


def check_labels(labels: dict[str, str]) -> None:
    """Raises Invalid when a label's key could not be asked for: `=` ends a key in a filter."""
    for key in labels:
        if "=" in key:
            raise Invalid.field(f"labels.{key}", "a key must not contain '='")


def view_of(entry: Entry, tasks: tuple[Task, ...] | msgspec.UnsetType = UNSET) -> SessionView:
    """The session as the API shows it."""
    session, counts = entry.session, entry.counts
    fields = {name: getattr(session, name) for name in Session.__struct_fields__}
    fields["seq"] = entry.seq
    return SessionView(
        **fields, state=session_state(counts, entry.reason), counts=counts, reason=entry.reason, tasks=tasks
    )
