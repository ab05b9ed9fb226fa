"""Which sessions are in memory: read when they are touched, let go when others need the room."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import resource
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import TypeVar

from agentd.config import Limits
from agentd.errors import SessionReadOnly, StorageFailed, Unavailable
from agentd.model.task import Task
from agentd.store import layout
from agentd.store.artifacts import Artifacts
from agentd.store.catalogue import Catalogue
from agentd.store.datadir import has_room
from agentd.store.disk import Disk
from agentd.store.entry import Entry
from agentd.store.folder import Folder, Loaded
from agentd.store.hands import Hands
from agentd.store.healing import Healing
from agentd.store.ledger import Committed, Hooks, Ledger
from agentd.store.locks import DirectoryLock
from agentd.store.room import Room

#: Journals that can be synced at the same moment; more threads only wait for the same disk.
COMMITTERS = 32
#: Threads that read; measured for a start from a cold disk, where 8 were slower than 4.
READERS = 4
#: How many sessions are looked at to find one that can leave memory.
EVICTION_LOOK = 8

T = TypeVar("T")


class Residency(Catalogue):
    """The way from a session's id to its ledger; with more than `limits.resident_sessions`, idle ones leave memory."""

    def __init__(self, data_dir: Path, *, disk: Disk, limits: Limits) -> None:
        super().__init__()
        self.data_dir = data_dir
        self.room = Room(lambda: self.in_thread(has_room, self._disk, str(self.data_dir)))
        self.live = 0  #: tasks that are not terminal, over all sessions
        self.on_commit: Callable[[str, Sequence[Committed]], None] = lambda session_id, committed: None
        self.on_commit_latency: Callable[[float], None] = lambda seconds: None
        self.on_failed: Callable[[str], None] = lambda session_id: None
        self.on_dropped: Callable[[str, Sequence[Task]], None] = lambda session_id, tasks: None
        self.on_edited: Callable[[str], None] = lambda session_id: None
        self.on_damaged: Callable[[str, str], None] = lambda session_id, reason: None
        self.on_healed: Callable[[str], None] = lambda session_id: None
        self.disk = self._disk = disk
        self._limits = limits
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        most = limits.resident_sessions
        # Each holds two descriptors: of few, they get a quarter at most.
        self._most = most if files == resource.RLIM_INFINITY else min(most, max(1, files // 8))
        self._sessions = data_dir / layout.SESSIONS
        self._committers = Hands(COMMITTERS, "commit")
        self._viewers = _pool(2, "views")
        self._readers = _pool(READERS, "read")
        self._healing = Healing(self.in_thread, lambda ledger: self.on_healed(ledger.session.session_id))
        self._chores: set[asyncio.Task[None]] = set()
        self._used: OrderedDict[str, None] = OrderedDict()  #: sessions in memory, the one used last at the end
        self._hooks = Hooks()
        self._hooks.on_commit = self._committed
        self._hooks.on_failed = self._failed
        self._hooks.on_dropped = lambda ledger, tasks: self.on_dropped(ledger.session.session_id, tasks)
        self._hooks.on_edited = lambda ledger: self.on_edited(ledger.session.session_id)
        self._hooks.on_commit_latency = lambda seconds: self.on_commit_latency(seconds)

    async def in_thread(self, work: Callable[..., T], *args: object) -> T:
        """Run blocking work off the loop."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work, *args)

    def later(self, work: Callable[..., None], *args: object) -> None:
        """Run blocking work, that raises nothing, off the loop; nobody waits for it."""
        asyncio.get_running_loop().run_in_executor(self._readers, work, *args)

    def path(self, session_id: str) -> Path:
        """The session's directory."""
        return self._sessions / session_id

    async def ledger(self, session_id: str) -> Ledger:
        """The session in memory, read from disk if it is not there.

        Raises:
            SessionNotFound: no such session.
            SessionReadOnly: its journal is damaged.
        """
        entry = self.entry(session_id)
        if entry.ledger is None or entry.loading is not None:
            if entry.reason is not None and entry.loading is None:
                raise SessionReadOnly(f"session {session_id} is read-only: {entry.reason}")
            await self._load(session_id)
            entry = self.entry(session_id)
        self._touch(session_id)
        assert entry.ledger is not None
        return entry.ledger

    async def set_aside(self, session_id: str, reason: str) -> None:
        """Serve the session as it is and read-only, for a reason that passes; `take_up` ends that."""
        entry = self.entries.get(session_id)
        if entry is not None and entry.ledger is not None:
            await self._put_out(entry, entry.ledger)
        try:
            loaded = await self.in_thread(Folder.read_untouched, self._disk, str(self._sessions / session_id))
        except SessionReadOnly as error:
            await self._keep_damaged(session_id, error.detail)
        else:
            self._keep_read_only(session_id, reason, loaded)

    async def take_up(self, session_id: str, ready: Callable[[Ledger], Awaitable[None]]) -> Ledger:
        """Read a session that was set aside again; nobody else sees the ledger before `ready` is done with it.

        Raises:
            StorageFailed, Unavailable: not yet; it is as it was before.
            SessionReadOnly: it is damaged.
            SessionNotFound: it was deleted.
        """
        self.entry(session_id)
        ledger = await self._load(session_id, ready)
        self._touch(session_id)
        return ledger

    async def _load(self, session_id: str, ready: Callable[[Ledger], Awaitable[None]] | None = None) -> Ledger:
        entry = self.entries.get(session_id)
        while entry is not None and entry.loading is not None:
            await asyncio.wait([entry.loading])
            entry = self.entry(session_id)
        if entry is not None and entry.ledger is not None:
            return entry.ledger
        if entry is not None and entry.reason is not None and ready is None:
            raise SessionReadOnly(f"session {session_id} is read-only: {entry.reason}")
        loading: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if entry is not None:
            entry.loading = loading
        path = self._sessions / session_id
        lock = None
        try:
            lock = DirectoryLock.take(path)
            if lock is None:
                raise Unavailable(f"another program holds the lock on session {session_id}; try again when it is done")
            folder, loaded = await self.in_thread(self._opened, str(path))
            ledger = self._new_ledger(folder, loaded)
            if ready is not None:
                try:
                    await ready(ledger)
                except BaseException:
                    await self._let_go(ledger)
                    raise
            if entry is None:
                entry = Entry(loaded.session, {})
                self._add(session_id, entry)
            entry.lock, lock = lock, None
            entry.ledger = ledger
            return ledger
        except SessionReadOnly as error:
            await self._keep_damaged(session_id, error.detail)
            raise
        finally:
            if lock is not None:
                lock.release()
            if entry is not None:
                entry.loading = None
            loading.cancel()

    def _opened(self, path: str) -> tuple[Folder, Loaded]:
        folder, loaded = Folder.open(self._disk, path, segment_bytes=self._limits.journal_bytes)
        if loaded.stale:
            Artifacts(Path(path)).sweep()  # what a killed daemon was receiving
        return folder, loaded

    async def _keep_damaged(self, session_id: str, reason: str) -> None:
        loaded = await self.in_thread(Folder.read_damaged, self._disk, str(self._sessions / session_id))
        self._keep_read_only(session_id, reason, loaded)

    def _keep_read_only(self, session_id: str, reason: str, loaded: Loaded) -> None:
        counts = Counter(task.state.value for task in loaded.tasks.values())
        damaged = Entry(loaded.session, dict(counts), reason, seq=loaded.seq)
        damaged.tasks, damaged.runs = loaded.tasks, loaded.runs
        if session_id in self.entries:
            self.entries[session_id] = damaged
        else:
            self._add(session_id, damaged)
        self.on_damaged(session_id, reason)

    # ------------------------------------------------------------------ in and out of memory

    def _new_ledger(self, folder: Folder, loaded: Loaded) -> Ledger:
        ledger = Ledger(folder, loaded, hooks=self._hooks, committers=self._committers, viewers=self._viewers)
        self._count(ledger, ledger.live)
        return ledger

    def _count(self, ledger: Ledger, live: int) -> None:
        """The ledger adds so many live tasks to all."""
        self.live += live - ledger.live_told
        ledger.live_told = live

    def _touch(self, session_id: str) -> None:
        """Note a use; with too many sessions in memory, let one go that is idle and was not used for longest."""
        self._used[session_id] = None
        self._used.move_to_end(session_id)
        if len(self._used) <= self._most:
            return
        for candidate in list(itertools.islice(self._used, EVICTION_LOOK)):
            entry = self.entries.get(candidate)
            if entry is None or entry.ledger is None:
                del self._used[candidate]  # deleted, or could not be
            elif candidate != session_id and entry.ledger.idle:
                del self._used[candidate]
                self._chore(self._evict(entry, entry.ledger))
                return
            else:
                self._used.move_to_end(candidate)

    async def _evict(self, entry: Entry, ledger: Ledger) -> None:
        """Let an idle session leave memory, unless somebody uses it meanwhile."""
        session_id = ledger.session.session_id
        await self._written(ledger)
        if entry.ledger is not ledger or entry.loading is not None or session_id in self._used:
            return
        if ledger.idle:
            await self._put_out(entry, ledger)
        else:
            self._used[session_id] = None

    async def _written(self, ledger: Ledger) -> None:
        """Settle the ledger and bring its files up to it, as far as the disk lets it."""
        with contextlib.suppress(StorageFailed, SessionReadOnly):
            await ledger.settled()
        await ledger.views.flush()

    async def _put_out(self, entry: Entry, ledger: Ledger) -> None:
        entry.put_out()
        await self._let_go(ledger)

    async def _let_go(self, ledger: Ledger) -> None:
        await self._healing.forget(ledger)
        ledger.abandon()
        self._count(ledger, 0)
        await self.in_thread(ledger.folder.close)

    def _chore(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
        return task

    # ------------------------------------------------------------------ what ledgers tell

    def _committed(self, ledger: Ledger, committed: Sequence[Committed]) -> None:
        self.room.found()
        self._count(ledger, ledger.live)
        self.on_commit(ledger.session.session_id, committed)

    def _failed(self, ledger: Ledger, error: StorageFailed | SessionReadOnly) -> None:
        if isinstance(error, StorageFailed):
            self.room.refused(error)
        session_id = ledger.session.session_id
        if ledger.folder.poisoned and ledger.reason is None:
            self._healing.begin(ledger)
            self.on_damaged(session_id, ledger.folder.poisoned)
        self.on_failed(session_id)


def _pool(threads: int, name: str) -> ThreadPoolExecutor:
    """Threads that are all there from the start: one that the system refuses later would lose what it was to do."""
    pool, there = ThreadPoolExecutor(threads, name), Barrier(threads)
    for _ in range(threads):
        pool.submit(there.wait)
    return pool
