"""Every session of the data directory: found at the start, made, removed, closed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path

from agentd.config import Limits
from agentd.errors import (
    SessionExists,
    SessionReadOnly,
    StorageFailed,
    Unavailable,
)
from agentd.model.events import Event
from agentd.model.ids import is_session_id
from agentd.model.session import Session
from agentd.model.task import Task
from agentd.model.upkeep import CheckReport
from agentd.store import layout, views
from agentd.store.archive import GoesAlong
from agentd.store.catalogue import Found
from agentd.store.check import check
from agentd.store.datadir import remove_session
from agentd.store.disk import Disk
from agentd.store.entry import Entry, first_state
from agentd.store.exporting import exported
from agentd.store.folder import Appended, Folder, Header
from agentd.store.importing import Import
from agentd.store.ledger import Committed, Ledger
from agentd.store.locks import DirectoryLock
from agentd.store.residency import READERS, Residency
from agentd.store.views import Snapshot

#: Sessions that a start reads before it looks whether more readers would help.
SCAN_STEP = 100


class Store(Residency):
    """The sessions under DATA/sessions. The caller holds the lock on DATA."""

    def __init__(self, data_dir: Path, *, disk: Disk, limits: Limits) -> None:
        super().__init__(data_dir, disk=disk, limits=limits)
        self._creating: dict[str, asyncio.Future[None]] = {}
        self._arriving: set[str] = set()  #: sessions that are being imported
        self._refused: set[str] = set()  #: creations that failed and whose directories are there all the same

    # ------------------------------------------------------------------ open and close

    async def open(self) -> Found:
        """Read every session's head; bring those that are not clean, or have live tasks, into memory."""
        torn, unclean = 0, 0
        damaged: list[tuple[str, str]] = []
        aside: list[tuple[str, str]] = []
        live: list[str] = []
        edited: list[str] = []
        for session_id, header in await self._scan():
            if header is not None:
                self._add(session_id, Entry(header.session, header.counts, seq=header.seq))
            live_states = ("waiting", "queued", "running")
            if header is None or header.live_runs or any(header.counts.get(state) for state in live_states):
                unclean += header is None
                try:
                    ledger = await self._load(session_id)
                except SessionReadOnly as error:
                    damaged.append((session_id, error.detail))
                    continue
                except (StorageFailed, Unavailable) as error:
                    await self.set_aside(session_id, error.detail)
                    aside.append((session_id, error.detail))
                    continue
                torn += ledger.torn
                if ledger.edited:
                    edited.append(session_id)
                if ledger.live or ledger.live_runs():
                    live.append(session_id)
                self._touch(session_id)
        return Found(len(self.entries), live, edited, torn, damaged, aside, unclean)

    async def _scan(self) -> list[tuple[str, Header | None]]:
        """The head of every session, by one reader until it has to wait for the disk, then by all.

        From a warm cache readers only wait for each other's turn at the interpreter: 10,000 heads took one of them
        0.31 s and four 0.99 s; from a cold one 4.75 s and 2.34 s.
        """
        names = await self.in_thread(self._disk.listdir, str(self._sessions))
        heads, done, waited = [], 0, False
        while done < len(names) and not waited:
            found, waited = await self.in_thread(self._heads, names[done : done + SCAN_STEP])
            heads += found
            done += SCAN_STEP
        left = names[done:]
        parts = (self.in_thread(self._heads, left[each::READERS]) for each in range(min(READERS, len(left))))
        return heads + [head for found, _ in await asyncio.gather(*parts) for head in found]

    def _heads(self, names: Sequence[str]) -> tuple[list[tuple[str, Header | None]], bool]:
        """Their heads, and whether more of the time was waited than worked."""
        began, worked = time.perf_counter(), time.thread_time()
        paths = ((name, f"{self._sessions}/{name}") for name in names if is_session_id(name))
        heads = [
            (name, Folder.header(self._disk, path))
            for name, path in paths
            if self._disk.entry(path).kind == "directory"  # no link leads out of the data directory
        ]
        return heads, time.perf_counter() - began > 2 * (time.thread_time() - worked)

    async def close(self) -> None:
        """Settle and write every view, let all locks go."""
        await self.room.close()
        if self._chores:
            await asyncio.wait(self._chores)
        for entry in list(self.entries.values()):
            if entry.ledger is not None:
                await self._written(entry.ledger)
                await self._put_out(entry, entry.ledger)
        for pool in (self._committers, self._viewers, self._readers):
            pool.shutdown()

    # ------------------------------------------------------------------ create and delete

    async def created_by_now(self, session_id: str) -> None:
        """Wait for a creation of this id that is under way, however it ends."""
        while (creating := self._creating.get(session_id)) is not None:
            await asyncio.wait([creating])

    async def create(self, session: Session, events: Sequence[Event]) -> Ledger:
        """Make a session durable with its first events, a SessionCreated ahead of them.

        Raises:
            SessionExists: there is one of this id.
            StorageFailed: it was not made.
        """
        session_id = session.session_id
        if session_id in self._arriving:
            raise SessionExists(f"session {session_id!r} is being imported; try again when that is done")
        if session_id in self.entries or session_id in self._creating:
            raise SessionExists(f"session {session_id!r} exists; choose another id, or submit to it")
        creating = self._creating[session_id] = asyncio.get_running_loop().create_future()
        try:
            folder, appended = await self.in_thread(self._created, session, list(events))
        except FileExistsError as error:
            raise SessionExists(f"{session_id!r} exists in the data directory and is not a session") from error
        except StorageFailed as error:
            self.room.refused(error)
            raise
        finally:
            del self._creating[session_id]
            creating.cancel()
        self.room.found()
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
        session_id = session.session_id
        try:
            made = Folder.create(
                self._disk,
                str(self._sessions),
                session,
                events,
                segment_bytes=self._limits.journal_bytes,
                refused_before=session_id in self._refused,
            )
        except StorageFailed:
            if self._disk.exists(str(self.path(session_id))):
                self._refused.add(session_id)
            raise
        self._refused.discard(session_id)
        return made

    async def receive(self, session_id: str, blocks: AsyncIterator[bytes], at: str, goes_along: GoesAlong) -> Entry:
        """Make a session of an archive as it comes; whole and durable when this returns, and otherwise not there.

        Raises:
            SessionExists: there is one of this id.
            Invalid, TooLarge: it is not an archive of this session, or not as it was exported.
            StorageFailed: it was not made.
        """
        if session_id in self.entries or session_id in self._creating or session_id in self._arriving:
            raise SessionExists(
                f"session {session_id!r} exists; delete it first, or import on another agent: the ids of its tasks "
                "belong to its name"
            )
        self._arriving.add(session_id)
        try:
            most = self._limits.import_bytes
            building = await self.in_thread(Import, self._disk, str(self._sessions), session_id, most, goes_along)
            try:
                async for block in blocks:
                    await self.in_thread(building.feed, block)
                # By itself: what is in its place is shown, though nobody waits for it any more.
                await asyncio.shield(self._chore(self._placed(building, session_id, at)))
            finally:
                await self.in_thread(building.close)
        finally:
            self._arriving.discard(session_id)
        return self.entry(session_id)

    async def _placed(self, building: Import, session_id: str, at: str) -> None:
        view = await self.in_thread(building.finish, at)
        self._add(session_id, Entry(view.session, view.counts, seq=view.seq))

    async def export(self, ledger: Ledger, goes_along: GoesAlong) -> Iterator[bytes]:
        """The archive of a session as it is durable now; each block is read when it is asked for, blocking.

        Raises:
            StorageFailed: an artifact cannot be read; so do the blocks.
        """
        return await self.in_thread(exported, self._disk, ledger.folder.path, ledger.moment(), goes_along)

    async def delete(self, session_id: str) -> None:
        """Remove a session and its directory. The caller has just seen that nothing in it is live or pending.

        It takes nothing more from the call on, and whoever asks for it then waits until it is gone.

        Raises:
            SessionNotFound: it is gone already.
            SessionReadOnly: another program holds its lock.
            StorageFailed: the disk refused; what is still there is served as before.
        """
        entry = self.entry(session_id)
        while entry.loading is not None:
            await asyncio.wait([entry.loading])
            entry = self.entry(session_id)
        leaving = entry.loading = asyncio.get_running_loop().create_future()
        try:
            if (ledger := entry.ledger) is not None:
                ledger.refuse("it is being deleted")
                with contextlib.suppress(StorageFailed, SessionReadOnly):
                    await ledger.settled()
                await ledger.views.abandoned()
            lock = None
            try:
                if entry.lock is None and (lock := DirectoryLock.take(self.path(session_id))) is None:
                    raise SessionReadOnly(f"another program holds the lock on session {session_id}; it is not deleted")
                await self.in_thread(remove_session, self._disk, str(self._sessions), session_id)
            finally:
                if lock is not None:
                    lock.release()
                gone = not await self.in_thread(self._disk.exists, str(self.path(session_id)))
                if ledger is not None and gone:
                    await self._put_out(entry, ledger)
                elif ledger is not None:
                    ledger.refuse(None)
                    ledger.views.resume()
                if gone:
                    self._remove(session_id)
        finally:
            entry.loading = None
            leaving.cancel()

    # ------------------------------------------------------------------ finding

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
