"""One session in memory: what is durable, what is staged on top of it, and the group commit between the two.

Readers see only what is durable (`session`, `tasks`, `seq`). Decisions are made on the head, which also holds what
is staged and not yet synced, so that the next step need not wait for the last one's disk. When a batch fails, all
that was staged falls away and the head is the durable state again.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import NamedTuple

from msgspec.structs import replace

from agentd.errors import SessionReadOnly, StorageFailed
from agentd.model.changes import applied_to_session, applied_to_task
from agentd.model.events import Event, SessionEvent, SessionPruned, TaskCreated, TaskEvent
from agentd.model.session import Session
from agentd.model.task import Task
from agentd.store.folder import Appended, Folder, KeyRecord, Loaded, Position
from agentd.store.hands import Hands
from agentd.store.replay import key_record
from agentd.store.view_writer import Moment, ViewWriter

#: Seconds that events nobody waits for may stay unwritten, so that they share a sync with what follows.
LAZY_S = 0.002


class Staged(NamedTuple):
    """An event on the head, with the value it made."""

    seq: int
    event: Event
    task: Task | None
    session: Session | None
    key: KeyRecord | None


class Committed(NamedTuple):
    """A durable event: its line in the journal and the task it made."""

    seq: int
    event: Event
    line: bytes
    task: Task | None


class Hooks:
    """Who is told of a ledger's life; the store sets them."""

    on_commit: Callable[[Ledger, Sequence[Committed]], None]
    on_failed: Callable[[Ledger, StorageFailed | SessionReadOnly], None]
    on_dropped: Callable[[Ledger, Sequence[Task]], None]
    on_edited: Callable[[Ledger], None]
    on_commit_latency: Callable[[float], None]


class Ledger:
    """A resident session. All methods are called on the event loop; the disk is touched only in threads."""

    def __init__(self, folder: Folder, loaded: Loaded, *, hooks: Hooks, committers: Hands, viewers: Executor) -> None:
        self.session = loaded.session
        self.tasks: dict[str, Task] = loaded.tasks
        self.keys: dict[str, KeyRecord] = loaded.keys
        self.seq = loaded.seq
        self.counts: Counter[str] = Counter(task.state.value for task in loaded.tasks.values())
        self.reason: str | None = None  #: why nothing can be written until the disk is well again
        self._users = 0  #: who is in the middle of something
        self.live_told = 0  #: how many live tasks the store has counted here
        self._closed: str | None = None  #: why nothing is taken any more
        self.torn = loaded.torn  #: records that were cut when it was opened
        self.edited = loaded.edited  #: metadata.json was not as the store wrote it when it was opened
        self.folder = folder
        self._hooks = hooks
        self._committers = committers
        self._loop = asyncio.get_running_loop()
        self.position: Position = loaded.position
        # the head
        self._head_tasks: dict[str, Task] = {}
        self._head_keys: dict[str, KeyRecord] = {}
        self.head_session = loaded.session  #: with all that is staged
        self.head_seq = loaded.seq  #: of the last staged event
        # group commit
        self._staged: list[Staged] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._in_flight: list[asyncio.Future[None]] = []  #: who waits for the batch that is being written
        self._flushing: list[Staged] | None = None  #: the batch that is being written
        self._began = 0.0  #: when, by perf_counter
        self._flush_at: asyncio.Handle | None = None
        self._due = math.inf  #: when what is staged must go, by the loop's clock
        self.views = ViewWriter(
            folder, viewers, loaded.finished_order, self.moment, self._drop, lambda: hooks.on_edited(self)
        )
        if loaded.stale:
            self.views.ask()

    # ------------------------------------------------------------------ the head

    def head(self, task_id: str) -> Task | None:
        """The task with all that is staged."""
        return self._head_tasks.get(task_id) or self.tasks.get(task_id)

    def head_key(self, key_hash: str) -> KeyRecord | None:
        """What an Idempotency-Key made, staged creations included."""
        return self._head_keys.get(key_hash) or self.keys.get(key_hash)

    @property
    def live(self) -> int:
        """How many tasks are not terminal."""
        return self.counts["waiting"] + self.counts["queued"] + self.counts["running"]

    @property
    def pending(self) -> bool:
        """Whether something is staged that is not durable."""
        return bool(self._staged or self._flushing)

    @property
    def busy(self) -> bool:
        """Whether something is not durable, or not in the files that people read."""
        return self.pending or self.views.busy

    @property
    def idle(self) -> bool:
        """Whether it can leave memory: nothing in it is live, to be written or to be healed, and nobody keeps it."""
        return not (self.live or self.busy or self.reason or self._users)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Meanwhile it does not leave memory: for who waits for something before staging."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1

    # ------------------------------------------------------------------ commit

    def stage(self, events: Sequence[Event], *, lazily: bool = False) -> asyncio.Future[None]:
        """Put events on the head, all or none; the future is done when they are durable.

        With `lazily` they may wait LAZY_S for company.

        Raises:
            InvalidTransition: an event does not fit the head; nothing was staged.
            SessionReadOnly: the session's disk failed, or it is being deleted.

        The future raises StorageFull or StorageFailed when the batch was not acknowledged.
        """
        if (reason := self.reason or self._closed) is not None:
            raise SessionReadOnly(f"session {self.session.session_id} is read-only: {reason}")
        staged = self._applied(events)
        for entry in staged:
            if entry.task is not None:
                self._head_tasks[entry.task.task_id] = entry.task
            if entry.session is not None:
                self.head_session = entry.session
            if entry.key is not None:
                self._head_keys[entry.key.key_hash] = entry.key
        self.head_seq += len(staged)
        self._staged += staged
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        self._ask_flush(self._loop.time() + LAZY_S if lazily else 0.0)
        return waiter

    def hurry(self) -> None:
        """Somebody waits for what is staged after all."""
        if self._staged:
            self._ask_flush(0.0)

    async def settled(self) -> None:
        """Wait until all that is staged now is durable; what is staged meanwhile is not waited for.

        Raises:
            StorageFailed, SessionReadOnly: it was not acknowledged.
        """
        if not self.pending:
            return
        waiter = self._loop.create_future()
        if self._staged:
            self._waiters.append(waiter)
            self._ask_flush(0.0)
        else:
            self._in_flight.append(waiter)
        await waiter

    def _applied(self, events: Sequence[Event]) -> list[Staged]:
        fresh: dict[str, Task] = {}
        session = self.head_session
        staged = []
        for seq, event in enumerate(events, self.head_seq + 1):
            task = changed = key = None
            if isinstance(event, TaskEvent):
                before = fresh.get(event.task_id) or self.head(event.task_id)
                task = fresh[event.task_id] = applied_to_task(before, event, seq)
                if isinstance(event, TaskCreated):
                    key = key_record(event, seq)
            elif isinstance(event, SessionEvent):
                session = changed = applied_to_session(session, event, seq)
            staged.append(Staged(seq, event, task, changed, key))
        return staged

    def _ask_flush(self, due: float) -> None:
        if due < self._due:
            self._due = due
            if self._flushing is None:  # or else the next batch starts when this one is durable
                self._set_flush()

    def _set_flush(self) -> None:
        if self._flush_at is not None:
            self._flush_at.cancel()
        # Not at once: what is staged in this turn of the loop shares the sync.
        late = self._due <= self._loop.time()
        self._flush_at = self._loop.call_soon(self._flush) if late else self._loop.call_at(self._due, self._flush)

    def _flush(self) -> None:
        self._flush_at, self._due = None, math.inf
        batch, self._staged = self._staged, []
        self._flushing = batch
        self._in_flight, self._waiters = self._waiters, []
        self._began = time.perf_counter()
        events = [entry.event for entry in batch]
        self._committers.run(self.folder.append, (events, batch[0].seq), self._flushed)

    def _flushed(self, appended: Appended | None, error: BaseException | None) -> None:
        batch, self._flushing = self._flushing, None
        waiters, self._in_flight = self._in_flight, []
        assert batch is not None
        if appended is None:
            self._fail(error, waiters)
            return
        self._publish(batch, appended)
        self._hooks.on_commit_latency(time.perf_counter() - self._began)
        for waiter in reversed(waiters):  # a start, staged after its submit, need not wait for the answer to be sent
            if not waiter.done():
                waiter.set_result(None)
        if self._staged:
            self._set_flush()

    def _publish(self, batch: list[Staged], appended: Appended) -> None:
        committed = []
        active_at = self.session.updated_at
        for entry, line in zip(batch, appended.lines, strict=True):
            if (task := entry.task) is not None:
                before = self.tasks.get(task.task_id)
                if before is not None:
                    self.counts[before.state.value] -= 1
                self.counts[task.state.value] += 1
                self.tasks[task.task_id] = task
                if self._head_tasks.get(task.task_id) is task:
                    del self._head_tasks[task.task_id]
                if task.terminal and (before is None or not before.terminal):
                    self.views.finished(entry.seq, task)
            if entry.session is not None:
                self.session = entry.session
                self.views.metadata_changed()
            if entry.key is not None:
                self.keys[entry.key.key_hash] = entry.key
                self._head_keys.pop(entry.key.key_hash, None)
            if isinstance(entry.event, SessionPruned):
                self._drop(entry.event.tasks)
                self.views.forget(entry.event.tasks)
            elif entry.event.at > active_at:
                active_at = entry.event.at
            committed.append(Committed(entry.seq, entry.event, line, entry.task))
        if active_at > self.session.updated_at:  # as `active` says, once a batch
            self.session = replace(self.session, updated_at=active_at)
        self.seq = batch[-1].seq
        self.position = appended.position
        self.views.ask(resting=not self.live)
        self._hooks.on_commit(self, committed)

    def _fail(self, error: BaseException | None, waiters: list[asyncio.Future[None]]) -> None:
        if not isinstance(error, (StorageFailed, SessionReadOnly)):
            error = StorageFailed(f"the journal could not be written: {error!r}")
        waiters += self._waiters
        self._waiters, self._staged, self._due = [], [], math.inf
        self._head_tasks.clear()
        self._head_keys.clear()
        self.head_session, self.head_seq = self.session, self.seq
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)
                waiter.exception()  # a record nobody waits for may fail unseen: the next one tells
        self._hooks.on_failed(self, error)

    # ------------------------------------------------------------------ views

    def moment(self) -> Moment:
        """The durable state as it is now."""
        return Moment(self.session, self.seq, self.position, list(self.tasks.values()), list(self.keys.values()))

    def _drop(self, task_ids: Iterable[str]) -> None:
        """Let finished tasks go that tasks.json no longer has; their records in history/ remain."""
        gone = [task for task_id in task_ids if (task := self.tasks.pop(task_id, None)) is not None]
        for task in gone:
            self.counts[task.state.value] -= 1
        self._hooks.on_dropped(self, gone)

    def drop_keys(self, key_hashes: Iterable[str]) -> None:
        """Forget expired Idempotency-Keys; the next view no longer has them."""
        for key_hash in key_hashes:
            self.keys.pop(key_hash, None)

    def refuse(self, reason: str | None) -> None:
        """Take nothing more; what is staged is still made durable. Without a reason: take changes again."""
        self._closed = reason

    def abandon(self) -> None:
        """Write nothing more; the caller has settled and flushed."""
        self._closed = self._closed or "it has left memory; try again"
        if self._flush_at is not None:
            self._flush_at.cancel()
        self.views.abandon()
