"""One session in memory: what is durable, what is staged on top of it, and the group commit between the two.

Readers see only what is durable (`session`, `tasks`, `seq`). Decisions are made on the head, which also holds what
is staged and not yet synced, so that the next step need not wait for the last one's disk. When a batch fails, all
that was staged falls away and the head is the durable state again.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import NamedTuple

import msgspec

from agentd.errors import SessionReadOnly, StorageFailed
from agentd.model.events import (
    Event,
    SessionCreated,
    SessionEvent,
    TaskCreated,
    TaskEvent,
    applied_to_session,
    applied_to_task,
)
from agentd.model.session import Session
from agentd.model.task import Task
from agentd.store.folder import Appended, Folder, KeyRecord, Loaded, Position, View

#: Seconds a record nobody waits for may stay unwritten, so that it shares a batch with what follows.
LAZY_S = 0.01
#: Seconds the views may lag the journal, and the share of one core their writing may take (DESIGN 5).
VIEW_LAG_S = 0.25
VIEW_DUTY = 0.1


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
    on_commit_latency: Callable[[float], None]


class Ledger:
    """A resident session. All methods are called on the event loop; the disk is touched only in threads."""

    def __init__(
        self, folder: Folder, loaded: Loaded, *, hooks: Hooks, committers: Executor, viewers: Executor
    ) -> None:
        self.session = loaded.session
        self.tasks: dict[str, Task] = loaded.tasks
        self.keys: dict[str, KeyRecord] = loaded.keys
        self.seq = loaded.seq
        self.counts: Counter[str] = Counter(task.state.value for task in loaded.tasks.values())
        self.reason: str | None = None  #: why nothing can be written now
        self.torn = loaded.torn  #: records that were cut when it was opened
        self.folder = folder
        self._hooks = hooks
        self._committers = committers
        self._viewers = viewers
        self._loop = asyncio.get_running_loop()
        self._position: Position = loaded.position
        # the head
        self._head_tasks: dict[str, Task] = {}
        self._head_keys: dict[str, KeyRecord] = {}
        self._head_session = loaded.session
        self._head_seq = loaded.seq
        # group commit
        self._staged: list[Staged] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._flushing: asyncio.Future[Appended] | None = None
        self._flush_at: asyncio.Handle | None = None
        self._eager = False
        # views
        self._finished_kept: list[str] = list(loaded.finished_order)
        self._unrecorded: list[tuple[int, Task]] = []
        self._metadata_changed = False
        self._view_at: asyncio.TimerHandle | None = None
        self._viewing: asyncio.Future[None] | None = None
        self._view_dirty = False
        self._view_pause_s = VIEW_LAG_S
        self._lines: dict[str, tuple[Task, bytes]] = {}

    # ------------------------------------------------------------------ the head

    def head(self, task_id: str) -> Task | None:
        """The task with all that is staged."""
        return self._head_tasks.get(task_id) or self.tasks.get(task_id)

    def head_key(self, key_hash: str) -> KeyRecord | None:
        """What an Idempotency-Key made, staged creations included."""
        return self._head_keys.get(key_hash) or self.keys.get(key_hash)

    @property
    def head_session(self) -> Session:
        """The session with all that is staged."""
        return self._head_session

    @property
    def head_seq(self) -> int:
        """The last staged event."""
        return self._head_seq

    @property
    def live(self) -> int:
        """How many tasks are not terminal."""
        return self.counts["waiting"] + self.counts["queued"] + self.counts["running"]

    @property
    def busy(self) -> bool:
        """Whether something is staged, being written or still to be written."""
        return bool(self._staged or self._flushing or self._view_dirty or self._viewing)

    # ------------------------------------------------------------------ commit

    def stage(self, events: Sequence[Event], *, lazily: bool = False) -> asyncio.Future[None]:
        """Put events on the head, all or none; the future is done when they are durable.

        With `lazily` they may wait a few milliseconds for company.

        Raises:
            InvalidTransition: an event does not fit the head; nothing was staged.
            SessionReadOnly: the session is damaged or its disk failed.

        The future raises StorageFull or StorageFailed when the batch was not acknowledged.
        """
        if self.reason is not None:
            raise SessionReadOnly(f"session {self.session.session_id} is read-only: {self.reason}")
        staged = self._applied(events)
        for entry in staged:
            if entry.task is not None:
                self._head_tasks[entry.task.task_id] = entry.task
            if entry.session is not None:
                self._head_session = entry.session
            if entry.key is not None:
                self._head_keys[entry.key.key_hash] = entry.key
        self._head_seq += len(staged)
        self._staged += staged
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        self._ask_flush(lazily)
        return waiter

    async def settled(self) -> None:
        """Wait until all that is staged now is durable.

        Raises:
            StorageFailed: it was not acknowledged.
        """
        while self._staged or self._flushing:
            if self._staged:
                waiter = self._loop.create_future()
                self._waiters.append(waiter)
                self._ask_flush(False)
                await waiter
            else:
                assert self._flushing is not None
                await asyncio.wait([self._flushing])
                await asyncio.sleep(0)  # its own callback publishes first

    def _applied(self, events: Sequence[Event]) -> list[Staged]:
        fresh: dict[str, Task] = {}
        session = self._head_session
        staged = []
        for seq, event in enumerate(events, self._head_seq + 1):
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

    def _ask_flush(self, lazily: bool) -> None:
        if self._flushing is not None:
            return  # the next batch starts when this one is durable
        if self._flush_at is not None:
            if lazily or self._eager:
                return
            self._flush_at.cancel()
        self._eager = not lazily
        # Not at once: what is staged in this turn of the loop shares the sync.
        self._flush_at = self._loop.call_later(LAZY_S, self._flush) if lazily else self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_at = None
        self._eager = False
        batch, self._staged = self._staged, []
        waiters, self._waiters = self._waiters, []
        began = time.perf_counter()
        events = [entry.event for entry in batch]
        self._flushing = self._loop.run_in_executor(self._committers, self.folder.append, events, batch[0].seq)
        self._flushing.add_done_callback(lambda done: self._flushed(done, batch, waiters, began))

    def _flushed(
        self,
        done: asyncio.Future[Appended],
        batch: list[Staged],
        waiters: list[asyncio.Future[None]],
        began: float,
    ) -> None:
        self._flushing = None
        error = done.exception()
        if error is not None:
            self._fail(error, waiters)
            return
        self._publish(batch, done.result())
        self._hooks.on_commit_latency(time.perf_counter() - began)
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self._staged:
            self._ask_flush(False)

    def _publish(self, batch: list[Staged], appended: Appended) -> None:
        committed = []
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
                    self._unrecorded.append((entry.seq, task))
            if entry.session is not None:
                self.session = entry.session
                self._metadata_changed = True
            if entry.key is not None:
                self.keys[entry.key.key_hash] = entry.key
                self._head_keys.pop(entry.key.key_hash, None)
            committed.append(Committed(entry.seq, entry.event, line, entry.task))
        self.seq = batch[-1].seq
        self._position = appended.position
        self._ask_view()
        self._hooks.on_commit(self, committed)

    def _fail(self, error: BaseException, waiters: list[asyncio.Future[None]]) -> None:
        if not isinstance(error, (StorageFailed, SessionReadOnly)):
            error = StorageFailed(f"the journal could not be written: {error!r}")
        waiters += self._waiters
        self._waiters = []
        self._staged = []
        self._head_tasks.clear()
        self._head_keys.clear()
        self._head_session = self.session
        self._head_seq = self.seq
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)
                waiter.exception()  # a record nobody waits for may fail unseen: the next one tells
        self._hooks.on_failed(self, error)

    # ------------------------------------------------------------------ views

    def _ask_view(self) -> None:
        self._view_dirty = True
        if self._view_at is None and self._viewing is None:
            self._view_at = self._loop.call_later(self._view_pause_s, self._write_views)

    def _write_views(self) -> None:
        self._view_at = None
        if self._viewing is not None or not self._view_dirty:
            return
        self._view_dirty = False
        finished, self._unrecorded = self._unrecorded, []
        metadata_changed, self._metadata_changed = self._metadata_changed, False
        ended = [*self._finished_kept, *(task.task_id for _, task in finished)]
        over = max(0, len(ended) - self.session.policy.tasks_kept)
        gone, kept = set(ended[:over]), ended[over:]
        tasks = [task for task in self.tasks.values() if task.task_id not in gone]
        view = _Pending(self.session, self.seq, self._position, tasks, dict(self.keys), finished, metadata_changed)
        began = time.perf_counter()
        self._viewing = self._loop.run_in_executor(self._viewers, self._written, view)
        self._viewing.add_done_callback(lambda done: self._viewed(done, view, gone, kept, time.perf_counter() - began))

    def _written(self, view: _Pending) -> None:
        """In a thread; `_lines` belongs to it."""
        lines: dict[str, tuple[Task, bytes]] = {}
        for task in view.tasks:
            known = self._lines.get(task.task_id)
            lines[task.task_id] = known if known and known[0] is task else (task, msgspec.json.encode(task))
        self._lines = lines
        finished = []
        for seq, task in view.finished:
            known = lines.get(task.task_id)
            line = known[1] if known and known[0] is task else msgspec.json.encode(task)
            finished.append((seq, task.state, task.task_id, line))
        self.folder.write_views(
            View(
                session=view.session,
                seq=view.seq,
                position=view.position,
                task_lines=[line for _, line in lines.values()],
                counts=dict(Counter(task.state.value for task in view.tasks)),
                keys=list(view.keys.values()),
                finished=finished,
                metadata_changed=view.metadata_changed,
            )
        )

    def _viewed(
        self, done: asyncio.Future[None], view: _Pending, gone: set[str], kept: list[str], took_s: float
    ) -> None:
        self._viewing = None
        self._view_pause_s = max(VIEW_LAG_S, took_s / VIEW_DUTY)
        if done.exception() is not None:
            # The journal has it all; the views are tried again, at the pace of a full disk.
            self._unrecorded = view.finished + self._unrecorded
            self._metadata_changed |= view.metadata_changed
            self._view_pause_s = max(self._view_pause_s, 1.0)
            self._ask_view()
            return
        self._finished_kept = kept
        for task_id in gone:
            task = self.tasks.pop(task_id, None)
            if task is not None:
                self.counts[task.state.value] -= 1
        if self._view_dirty:
            self._ask_view()

    def drop_keys(self, key_hashes: Sequence[str]) -> None:
        """Forget expired Idempotency-Keys; the next view no longer has them."""
        for key_hash in key_hashes:
            self.keys.pop(key_hash, None)

    def poke_views(self) -> None:
        """Write the views soon, metadata.json included: somebody else touched it."""
        self._metadata_changed = True
        self._ask_view()

    async def flush_views(self) -> None:
        """Bring the views up to what is durable, as a clean stop does. A disk that refuses leaves them behind."""
        for _ in range(3):
            if self._viewing is not None:
                await asyncio.wait([self._viewing])
                await asyncio.sleep(0)
            if not self._view_dirty:
                return
            if self._view_at is not None:
                self._view_at.cancel()
            self._write_views()
        if self._viewing is not None:
            await asyncio.wait([self._viewing])

    def abandon(self) -> None:
        """Forget timers; the caller has settled and flushed, or deletes the session."""
        for handle in (self._view_at, self._flush_at):
            if handle is not None:
                handle.cancel()
        self._view_dirty = False


class _Pending(NamedTuple):
    """What a view is made of, taken at one moment on the loop."""

    session: Session
    seq: int
    position: Position
    tasks: list[Task]
    keys: dict[str, KeyRecord]
    finished: list[tuple[int, Task]]
    metadata_changed: bool


def key_record(event: TaskCreated | SessionCreated, seq: int) -> KeyRecord | None:
    """What to remember of a creation that carried an Idempotency-Key."""
    if event.key_hash is None or event.body_hash is None:
        return None
    task_id = event.task_id if isinstance(event, TaskCreated) else None
    return KeyRecord(key_hash=event.key_hash, body_hash=event.body_hash, at=event.at, task_id=task_id, seq=seq)
