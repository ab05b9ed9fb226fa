"""The verbs of sessions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Set
from operator import attrgetter, itemgetter

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from agentd.errors import (
    IdempotencyConflict,
    PreconditionFailed,
    QueueFull,
    SessionActive,
    SessionReadOnly,
    StorageFailed,
)
from agentd.model.events import (
    Event,
    SessionArchived,
    SessionCreated,
    SessionDeleted,
    SessionUpdated,
    decoded,
)
from agentd.model.ids import check_session_id, new_session_id, session_id_for_key
from agentd.model.requests import (
    SESSION_SORTS,
    Created,
    Key,
    NewSession,
    Page,
    PolicyChanges,
    SessionPatch,
    SessionQuery,
    SessionView,
    plain,
)
from agentd.model.session import Budget, Policy, Retention, Session, SessionChanges, SessionUsage
from agentd.model.task import Cause, CauseCode, Task, Value
from agentd.service.listing import (
    check_labels,
    check_sort,
    moment,
    paged,
    session_matches,
    session_state,
    view_of,
)
from agentd.service.stopping import Stopping
from agentd.store.artifacts import Artifacts
from agentd.store.ledger import Ledger


class EventsPage(Value, frozen=True, kw_only=True):
    """Journal lines as they are; `next` is the `after` of the following page, `gap` the first seq still kept."""

    lines: list[bytes]
    next: int | None
    gap: int | None
    seq: int


class SessionVerbs(Stopping):
    """Create, read, edit, archive, cancel, delete."""

    async def list_sessions(self, query: SessionQuery) -> Page[SessionView]:
        """Sessions that match, a page of them, without their tasks.

        Raises:
            Malformed: a bad cursor or sort.
        """
        field, descending = check_sort(query.sort, SESSION_SORTS)
        query = replace(query, since=moment("since", query.since))
        key = attrgetter(field)
        rows = [
            (key(session), session.session_id, entry)
            for entry in self.store.entries.values()
            if session_matches(session := entry.session, query)
            and (not query.state or session_state(entry.counts, entry.reason) in query.state)
        ]
        page = paged(
            rows,
            itemgetter(0, 1),
            of=f"sessions {query.sort}",
            limit=query.limit,
            cursor=query.cursor,
            descending=descending,
        )
        return Page(data=tuple(view_of(entry) for _, _, entry in page.data), next=page.next)

    async def create_session(self, new: NewSession, key: Key | None) -> Created[SessionView]:
        """Make a session; durable when this returns.

        Raises:
            Invalid: the id or a label.
            SessionExists, IdempotencyConflict, QueueFull, Draining, StorageFailed
        """
        session = self.new_session(new, key)
        session_id = session.session_id
        self.keys.check_home(key, session_id, self.store.entries)
        await self.store.created_by_now(session_id)
        if key is not None and session_id in self.store.entries:
            ledger = await self.store.ledger(session_id)
            if (record := ledger.head_key(key.key_hash)) is not None and record.is_of_session:
                if record.body_hash != key.body_hash:
                    raise IdempotencyConflict("this Idempotency-Key made a session from another body; use a new key")
                return Created(value=await self._as_created(ledger), replayed=True)
        self.refuse_when_draining()
        self.refuse_when_full(session_id)
        event = SessionCreated(at=session.created_at, session=session)
        if key is not None:
            event = replace(event, key_hash=key.key_hash, body_hash=key.body_hash)
        ledger = await self.store.create(session, [event])
        return Created(value=view_of(self.store.entry(ledger.session.session_id)))

    def refuse_when_full(self, session_id: str) -> None:
        """Raises QueueFull when this would be one session more than `limits.sessions`."""
        count = len(self.store.entries)
        if session_id not in self.store.entries and count >= self.settings.limits.sessions:
            raise QueueFull(f"there are {count} sessions, the limit (limits.sessions); delete or clean up some")

    def new_session(self, new: NewSession, key: Key | None) -> Session:
        """The session that a create makes, checked.

        Raises:
            Invalid: the id or a label.
        """
        if new.session_id is not None:
            session_id = check_session_id(new.session_id)
        else:
            session_id = session_id_for_key(key.key_hash) if key is not None else new_session_id()
        check_labels(new.labels)
        at = self.now()
        return Session(
            session_id=session_id,
            title=new.title,
            labels=new.labels,
            policy=merged(Policy(), new.policy),
            created_at=at,
            updated_at=at,
            usage=SessionUsage(),
            seq=1,
        )

    async def _as_created(self, ledger: Ledger) -> SessionView:
        lines, _ = await self.in_thread(ledger.folder.read_events, 0, 1, ledger.seq)
        event = decoded(lines[0]) if lines else None
        session = event.session if isinstance(event, SessionCreated) else ledger.session
        return msgspec.convert(session, SessionView, from_attributes=True)

    async def session(self, session_id: str) -> SessionView:
        """One session with its tasks, newest first.

        Raises:
            SessionNotFound: no such session.
        """
        entry = self.store.entry(session_id)
        with contextlib.suppress(SessionReadOnly):
            await self.store.ledger(session_id)
        entry = self.store.entry(session_id)
        tasks = entry.ledger.tasks if entry.ledger else entry.tasks
        return view_of(entry, tuple(reversed(tasks.values())))

    async def edit_session(self, session_id: str, patch: SessionPatch, if_seq: Set[int] | None) -> SessionView:
        """Set what the patch names.

        Raises:
            SessionNotFound, SessionReadOnly, StorageFailed
            PreconditionFailed: the session's current version is none of `if_seq`.
            Invalid: a label.
        """
        if patch.labels is not UNSET:
            check_labels(patch.labels)
        self._check_version(await self.store.ledger(session_id), if_seq)
        await self.take_edit_in(session_id)  # it came first
        ledger = await self.store.ledger(session_id)
        self._check_version(ledger, if_seq)  # again: the wait let others in
        session = ledger.head_session
        policy = merged(session.policy, patch.policy) if patch.policy is not UNSET else UNSET
        changes = SessionChanges(title=patch.title, labels=patch.labels, policy=policy)
        events: list[Event] = []
        if changes != SessionChanges():
            events.append(SessionUpdated(at=self.now(), changes=changes))
        if patch.archived is not UNSET and patch.archived is not session.archived:
            events.append(SessionArchived(at=self.now(), archived=patch.archived))
        if events:
            await self.stage(ledger, events)
            await ledger.views.flush()  # an edit by hand that follows the answer finds metadata.json as it is now
        else:
            await ledger.settled()  # the same change by somebody else may be on its way to the disk
        return view_of(self.store.entry(session_id))

    async def delete_session(self, session_id: str, *, force: bool, if_seq: Set[int] | None) -> None:
        """Remove a session with all its files.

        With `force` what is live is cancelled first, and its end awaited.

        Raises:
            SessionNotFound, PreconditionFailed, StorageFailed
            SessionActive: it has live tasks and `force` is not set.
            SessionReadOnly: it has live tasks, and their cancellation cannot be recorded now.
        """
        ledger = None
        with contextlib.suppress(SessionReadOnly):  # a damaged one has nothing that runs
            ledger = await self.store.ledger(session_id)
        if ledger is not None:
            self._check_version(ledger, if_seq)
            if ledger.live_runs() and not force:
                raise SessionActive(f"session {session_id} has a workflow that runs; cancel it or use force")
            with ledger.kept():
                while ledger.live or ledger.pending:
                    with contextlib.suppress(StorageFailed, SessionReadOnly):
                        await ledger.settled()
                    if ledger.live and not force:
                        raise SessionActive(
                            f"session {session_id} has {ledger.live} unfinished tasks; cancel them or use force"
                        )
                    await self._all_ended(ledger)
        try:
            await self.store.delete(session_id)
        finally:
            self._histories.pop(session_id, None)
        self.runner.forget(session_id)
        self.announce(SessionDeleted(at=self.now(), session_id=session_id))

    async def _all_ended(self, ledger: Ledger) -> None:
        """Cancel what is live, and wait until it has ended."""
        ends = [self.end_of(task.task_id) for task in ledger.tasks.values() if not task.terminal]
        try:
            await self.cancel_session(ledger.session.session_id)
            if ends:
                await asyncio.wait(ends)
        finally:
            for end in ends:
                end.cancel()

    async def cancel_session(self, session_id: str) -> tuple[Task, ...]:
        """Cancel all that is not terminal; running tasks are asked to stop.

        Raises:
            SessionNotFound, SessionReadOnly, StorageFailed
        """
        ledger = await self.store.ledger(session_id)
        return await self.stop_all(ledger, Cause(code=CauseCode.SESSION_CANCELLED, message="the session was cancelled"))

    async def events(self, session_id: str, after: int, limit: int) -> EventsPage:
        """The session's journal behind `after`, at most `limit` lines.

        Raises:
            SessionNotFound, SessionReadOnly
        """
        ledger = await self.store.ledger(session_id)
        seq = ledger.seq
        lines, gap = await self.in_thread(ledger.folder.read_events, after, limit, seq)
        last = (gap - 1 if gap is not None else after) + len(lines)
        return EventsPage(lines=lines, next=last if last < seq and lines else None, gap=gap, seq=seq)

    def artifacts(self, session_id: str) -> Artifacts:
        """The session's artifacts.

        Raises:
            SessionNotFound: no such session.
        """
        self.store.entry(session_id)
        return Artifacts(self.store.path(session_id))

    def _check_version(self, ledger: Ledger, if_seq: Set[int] | None) -> None:
        if if_seq is not None and ledger.head_seq not in if_seq:
            raise PreconditionFailed(
                f"session {ledger.session.session_id} is at {ledger.head_seq}, not at what was read; read it again"
            )


def merged(policy: Policy, changes: PolicyChanges) -> Policy:
    """The policy with what the changes name."""
    given = {k: v for k, v in msgspec.structs.asdict(changes).items() if v is not UNSET}
    if given.get("retention") is not None:
        given["retention"] = plain(given["retention"], Retention)
    if given.get("budget") is not None:
        given["budget"] = plain(given["budget"], Budget)
    return replace(policy, **given)
