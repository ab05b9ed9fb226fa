"""Every session of the data directory: which are there, which are in memory, and the way to each."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from agentd.config import Limits
from agentd.errors import (
    AgentdError,
    SessionExists,
    SessionReadOnly,
    StorageFailed,
    StorageFull,
    Unavailable,
)
from agentd.model.events import Event
from agentd.model.ids import is_session_id
from agentd.model.requests import CheckReport
from agentd.model.session import Session
from agentd.model.task import Task
from agentd.store import layout, views
from agentd.store.artifacts import Artifacts
from agentd.store.catalogue import Catalogue, Found
from agentd.store.check import check
from agentd.store.datadir import remove_session
from agentd.store.disk import Disk
from agentd.store.entry import Entry, first_state
from agentd.store.folder import Appended, Folder, Header, Loaded
from agentd.store.healing import Healing
from agentd.store.ledger import Committed, Hooks, Ledger
from agentd.store.locks import DirectoryLock
from agentd.store.views import Snapshot

#: Journals that can be synced at the same moment; more threads only wait for the same disk.
COMMITTERS = 32
#: Threads that read; measured for a start from a cold disk, where 8 were slower than 4.
READERS = 4

T = TypeVar("T")


class Store(Catalogue):
    """The sessions under DATA/sessions. The caller holds the lock on DATA."""

    def __init__(self, data_dir: Path, *, disk: Disk, limits: Limits) -> None:
        super().__init__()
        self.data_dir = data_dir
        self.full = False  #: the last write found no room
        self.on_commit: Callable[[str, Sequence[Committed]], None] = lambda session_id, committed: None
        self.on_commit_latency: Callable[[float], None] = lambda seconds: None
        self.on_failed: Callable[[str, AgentdError], None] = lambda session_id, error: None
        self.on_dropped: Callable[[str, Sequence[Task]], None] = lambda session_id, tasks: None
        self.on_damaged: Callable[[str, str], None] = lambda session_id, reason: None
        self._disk = disk
        self._limits = limits
        self._sessions = data_dir / layout.SESSIONS
        self._creating: dict[str, asyncio.Future[None]] = {}
        self._committers = ThreadPoolExecutor(COMMITTERS, "commit")
        self._viewers = ThreadPoolExecutor(2, "views")
        self._readers = ThreadPoolExecutor(READERS, "read")
        self._healing = Healing(self.in_thread)
        self._chores: set[asyncio.Task[None]] = set()
        self._hooks = Hooks()
        self._hooks.on_commit = self._committed
        self._hooks.on_failed = self._failed
        self._hooks.on_dropped = lambda ledger, tasks: self.on_dropped(ledger.session.session_id, tasks)
        self._hooks.on_commit_latency = lambda seconds: self.on_commit_latency(seconds)

    async def in_thread(self, work: Callable[..., T], *args: object) -> T:
        """Run blocking work off the loop."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work, *args)

    # ------------------------------------------------------------------ open and close

    async def open(self) -> Found:
        """Read every session's head; bring those that are not clean, or have live tasks, into memory."""
        torn, unclean = 0, 0
        damaged: list[tuple[str, str]] = []
        live: list[str] = []
        edited: list[str] = []
        for session_id, header in await self._scan():
            if header is not None:
                self._add(session_id, Entry(header.session, header.counts, seq=header.seq))
            if header is None or any(header.counts.get(state) for state in ("waiting", "queued", "running")):
                unclean += header is None
                try:
                    ledger = await self._load(session_id)
                except SessionReadOnly as error:
                    damaged.append((session_id, error.detail))
                    continue
                torn += ledger.torn
                if ledger.edited:
                    edited.append(session_id)
                if ledger.live:
                    live.append(session_id)
                self._touch(session_id)
        return Found(len(self.entries), live, edited, torn, damaged, unclean)

    async def _scan(self) -> list[tuple[str, Header | None]]:
        """The head of every session; a cold disk is read by all readers at once."""
        names = await self.in_thread(self._disk.listdir, str(self._sessions))
        parts = (self.in_thread(self._heads, names[each::READERS]) for each in range(READERS))
        return [head for part in await asyncio.gather(*parts) for head in part]

    def _heads(self, names: Sequence[str]) -> list[tuple[str, Header | None]]:
        paths = ((name, f"{self._sessions}/{name}") for name in names if is_session_id(name))
        return [
            (name, Folder.header(self._disk, path))
            for name, path in paths
            if self._disk.entry(path).kind == "directory"  # no link leads out of the data directory
        ]

    async def close(self) -> None:
        """Settle and write every view, let all locks go."""
        await self._healing.close()
        if self._chores:
            await asyncio.wait(self._chores)
        for entry in self.entries.values():
            await self._put_out(entry)
        for pool in (self._committers, self._viewers, self._readers):
            pool.shutdown()

    # ------------------------------------------------------------------ one session

    async def ledger(self, session_id: str) -> Ledger:
        """The session in memory, read from disk if it is not there.

        Raises:
            SessionNotFound: no such session.
            SessionReadOnly: its journal is damaged.
        """
        entry = self.entry(session_id)
        if entry.ledger is None:
            if entry.reason is not None:
                raise SessionReadOnly(f"session {session_id} is read-only: {entry.reason}")
            await self._load(session_id)
            entry = self.entry(session_id)
        self._touch(session_id)
        assert entry.ledger is not None
        return entry.ledger

    async def _load(self, session_id: str) -> Ledger:
        entry = self.entries.get(session_id)
        while entry is not None and entry.loading is not None:
            await asyncio.wait([entry.loading])
            entry = self.entry(session_id)
        if entry is not None and entry.ledger is not None:
            return entry.ledger
        loading: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if entry is not None:
            entry.loading = loading
        path = self._sessions / session_id
        lock = DirectoryLock.take(path)
        try:
            if lock is None:
                raise Unavailable(f"another program holds the lock on session {session_id}; try again when it is done")
            folder, loaded = await self.in_thread(self._opened, str(path))
            if entry is None:
                entry = Entry(loaded.session, {})
                self._add(session_id, entry)
            entry.lock, lock = lock, None
            entry.ledger = self._new_ledger(folder, loaded)
            return entry.ledger
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
        counts = Counter(task.state.value for task in loaded.tasks.values())
        damaged = Entry(loaded.session, dict(counts), reason, seq=loaded.seq)
        damaged.tasks = loaded.tasks
        if session_id in self.entries:
            self.entries[session_id] = damaged
        else:
            self._add(session_id, damaged)
        self.on_damaged(session_id, reason)

    async def created_by_now(self, session_id: str) -> None:
        """Wait for a creation of this id that is under way, however it ends."""
        if (creating := self._creating.get(session_id)) is not None:
            await asyncio.wait([creating])

    async def create(self, session: Session, events: Sequence[Event]) -> Ledger:
        """Make a session durable with its first events, a SessionCreated ahead of them.

        Raises:
            SessionExists: there is one of this id.
            StorageFailed: it was not made.
        """
        session_id = session.session_id
        if session_id in self.entries or session_id in self._creating:
            raise SessionExists(f"session {session_id!r} exists; choose another id, or submit to it")
        creating = self._creating[session_id] = asyncio.get_running_loop().create_future()
        try:
            folder, appended = await self.in_thread(self._created, session, list(events))
        except FileExistsError as error:
            raise SessionExists(f"{session_id!r} exists in the data directory and is not a session") from error
        except StorageFull:
            self.full = True
            raise
        finally:
            del self._creating[session_id]
            creating.cancel()
        self.full = False
        loaded = first_state(session, events, appended)
        entry = Entry(session, {})
        entry.lock = DirectoryLock.take(self._sessions / session_id)
        entry.ledger = self._new_ledger(folder, loaded)
        self._add(session_id, entry)
        self._touch(session_id)
        rows = enumerate(zip(events, appended.lines, strict=True), 1)
        self.on_commit(
            session_id,
            [Committed(seq, each, line, loaded.tasks.get(getattr(each, "task_id", ""))) for seq, (each, line) in rows],
        )
        return entry.ledger

    def _created(self, session: Session, events: list[Event]) -> tuple[Folder, Appended]:
        return Folder.create(self._disk, str(self._sessions), session, events, segment_bytes=self._limits.journal_bytes)

    async def delete(self, session_id: str) -> None:
        """Remove a session and its directory. The caller has seen that nothing in it is live."""
        entry = self.entry(session_id)
        if entry.ledger is not None:
            with contextlib.suppress(StorageFailed):
                await entry.ledger.settled()
            await entry.ledger.views.flush()
            entry.ledger.abandon()
            entry.ledger.folder.close()
        self._remove(session_id)
        entry.put_out()
        await self.in_thread(remove_session, self._disk, str(self._sessions), session_id)

    # ------------------------------------------------------------------ finding

    def path(self, session_id: str) -> Path:
        """The session's directory."""
        return self._sessions / session_id

    def read_snapshot(self, session_id: str) -> Snapshot | None:
        """What tasks.json says of a session that is not in memory; None when it cannot be read. Blocking."""
        try:
            data = self._disk.read(layout.tasks_path(str(self.path(session_id))))
        except OSError:
            return None  # deleted meanwhile
        return views.read_snapshot_loosely(data)

    def read_tasks(self, session_ids: Sequence[str]) -> list[Iterable[Task]]:
        """The tasks in tasks.json of sessions that are not in memory. Blocking."""
        snapshots = (self.read_snapshot(session_id) for session_id in session_ids)
        return [snapshot.tasks for snapshot in snapshots if snapshot is not None]

    def check(self) -> CheckReport:
        """Read and verify everything, change nothing. Blocking."""
        return check(self._disk, str(self.data_dir), repair=False)

    # ------------------------------------------------------------------ residency

    def _new_ledger(self, folder: Folder, loaded: Loaded) -> Ledger:
        return Ledger(folder, loaded, hooks=self._hooks, committers=self._committers, viewers=self._viewers)

    def _touch(self, session_id: str) -> None:
        if (gone := self._touched(session_id, self._limits.resident_sessions)) is not None:
            self._chore(self._put_out(gone))

    async def _put_out(self, entry: Entry) -> None:
        ledger = entry.ledger
        if ledger is None:
            return
        with contextlib.suppress(StorageFailed, SessionReadOnly):
            await ledger.settled()
        await ledger.views.flush()
        if entry.ledger is ledger and not ledger.busy:
            entry.put_out()
            ledger.abandon()
            await self.in_thread(ledger.folder.close)

    def _chore(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    # ------------------------------------------------------------------ what ledgers tell

    def _committed(self, ledger: Ledger, committed: Sequence[Committed]) -> None:
        self.full = False
        self.on_commit(ledger.session.session_id, committed)

    def _failed(self, ledger: Ledger, error: StorageFailed | SessionReadOnly) -> None:
        self.full = isinstance(error, StorageFull)
        session_id = ledger.session.session_id
        if ledger.folder.poisoned and ledger.reason is None:
            self._healing.begin(ledger)
            self.on_damaged(session_id, ledger.folder.poisoned)
        self.on_failed(session_id, error)
