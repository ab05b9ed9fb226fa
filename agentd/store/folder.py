"""One session's directory: created whole or not at all, opened and repaired, appended to, viewed.

Blocking; call it from threads, one at a time per folder. Only `write_views` and `read_events` may run beside `append`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agentd.errors import SessionReadOnly, StorageFailed
from agentd.model.events import Event
from agentd.model.session import Session
from agentd.store import examine, layout, quarantine, views
from agentd.store.datadir import read_format, sweep, write_format
from agentd.store.disk import Disk, failure, replace_file
from agentd.store.examine import Examined, Header, Loaded
from agentd.store.journal import Position, sealed_batch, sealed_head
from agentd.store.reader import Reader
from agentd.store.replay import Finished, KeyRecord, Replay
from agentd.store.views import View, view_of

__all__ = [
    "Appended",
    "Finished",
    "Folder",
    "Header",
    "KeyRecord",
    "Loaded",
    "Position",
    "View",
    "read_format",
    "sweep",
    "write_format",
]

SEGMENT_BYTES = 8 << 20


class Appended(NamedTuple):
    """A durable batch: its lines, each with its line end, and the position after it."""

    lines: list[bytes]
    position: Position


class Folder:
    """A session's directory, open for appending."""

    def __init__(self, disk: Disk, path: str, segment_bytes: int) -> None:
        self.path = path
        self.session_id = path.rsplit("/", 1)[1]
        self.poisoned: str | None = None  #: why nothing can be appended; `resume` ends it
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._reader = Reader(disk, path)
        self._fd: int | None = None
        self._segment = 0
        self._beginning = False  #: the current segment is still to be started
        self._offset = 0  #: bytes of the current segment that are durable
        self._seq = 0
        self._crc = 0
        self._position: Position | None = None
        # What a crash may have kept from being written, and the next snapshot promises.
        self._missing: list[Finished] = []
        self._metadata_behind = False

    # ------------------------------------------------------------------ create

    @classmethod
    def create(
        cls,
        disk: Disk,
        sessions_dir: str,
        session: Session,
        events: Sequence[Event],
        *,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> tuple[Folder, Appended]:
        """Make the session with its first events; it is durable when this returns, and otherwise not there.

        Raises:
            FileExistsError: the name is taken.
            StorageFailed: it was not made.
        """
        path = f"{sessions_dir}/{session.session_id}"
        if disk.exists(path):
            raise FileExistsError(path)
        folder = cls(disk, path, segment_bytes)
        try:
            return folder, folder._build(layout.new_session_dir(sessions_dir, session.session_id), sessions_dir, events)
        except OSError as error:
            folder.close()
            _discard(disk, layout.new_session_dir(sessions_dir, session.session_id))
            raise failure(error, f"session {session.session_id}") from error

    def _build(self, new: str, sessions_dir: str, events: Sequence[Event]) -> Appended:
        disk = self._disk
        if disk.exists(new):
            disk.rmtree(new)
        disk.mkdir(new)
        for name in (layout.HISTORY, layout.OUTPUT, layout.ARTIFACTS, layout.WORKSPACE, layout.HOME):
            disk.mkdir(f"{new}/{name}")
        lines, crc = sealed_batch(self.session_id, events, 1, 0)
        data = b"".join([sealed_head(self.session_id, 1, 1, 0), *lines])
        self._fd = disk.open(layout.segment_path(new, 1), append=True)
        disk.write(self._fd, data)
        disk.fdatasync(self._fd, "create.journal")
        replay = Replay()
        for seq, event in enumerate(events, 1):
            replay.apply(event, seq)
        for record in replay.records():
            views.write_record(disk, new, *record)
        disk.fsync_dir(layout.history_dir(new), "create.history_dir")
        self._segment, self._offset, self._seq, self._crc = 1, len(data), len(events), crc
        self._position = Position(file=layout.segment_name(1), offset=len(data), crc=f"{crc:08x}")
        view = view_of(replay, self._position)
        replace_file(disk, layout.metadata_path(new), views.metadata_bytes(view.session), "create.metadata")
        replace_file(disk, layout.tasks_path(new), views.snapshot_bytes(view), "create.tasks")
        disk.fsync_dir(new, "create.new_dir")
        disk.rename(new, self.path)
        try:
            disk.fsync_dir(sessions_dir, "create.sessions_dir")
        except OSError:
            disk.rename(self.path, new)  # refused, so it must not be there after all
            raise
        self._reader.segments = [(1, 1)]
        return Appended(lines, self._position)

    # ------------------------------------------------------------------ open

    @classmethod
    def open(cls, disk: Disk, path: str, *, segment_bytes: int = SEGMENT_BYTES) -> tuple[Folder, Loaded]:
        """Verify the session from its snapshot on, cut what was never acknowledged, and make sure the rest is durable.

        What is cut is in quarantine first. Everything is read before anything is changed.

        Raises:
            SessionReadOnly: it is damaged; nothing was touched.
            StorageFailed: the repair could not be written.
        """
        folder = cls(disk, path, segment_bytes)
        found = examine.examined(disk, path)
        try:
            folder._repair(found)
        except OSError as error:
            folder.close()
            raise failure(error, f"the repair of session {folder.session_id}") from error
        return folder, found.loaded()

    def _repair(self, found: Examined) -> None:
        disk, scan = self._disk, found.scan
        assert scan.last is not None and scan.position is not None
        if found.bad_snapshot is not None:
            quarantine.keep(disk, self.path, layout.TASKS, 0, found.bad_snapshot)
            disk.unlink(layout.tasks_path(self.path))
        for torn in scan.torn:
            if torn.data:
                quarantine.keep(disk, self.path, layout.segment_name(torn.segment), torn.offset, torn.data)
        for torn in reversed(scan.torn):
            if torn.segment != scan.last.number:
                disk.unlink(layout.segment_path(self.path, torn.segment))
        self._fd = disk.open(layout.segment_path(self.path, scan.last.number), append=True)
        if any(torn.segment == scan.last.number for torn in scan.torn):
            disk.truncate(self._fd, scan.end)
        if found.stale:
            # What is read back after the process died may be in memory only; from here on it counts as acknowledged.
            disk.fdatasync(self._fd, "open.journal")
            disk.fsync_dir(layout.history_dir(self.path), "open.history_dir")
            disk.fsync_dir(self.path, "open.session_dir")
        self._segment, self._offset = scan.last.number, scan.end
        self._seq, self._crc, self._position = scan.seq, int(scan.position.crc, 16), scan.position
        self._missing, self._metadata_behind = found.missing, found.behind
        if found.snapshot is None:
            self._reader.segments = [(each.number, each.head.first_seq) for each in scan.segments if each.head]

    @classmethod
    def read_damaged(cls, disk: Disk, path: str) -> Loaded:
        """As much of a damaged session as can be read: its snapshot, else the sound part of its journal."""
        return examine.salvaged(disk, path)

    @staticmethod
    def header(disk: Disk, path: str) -> Header | None:
        """What lists show, if views and journal agree at a glance; None when the session must be opened."""
        return examine.header(disk, path)

    # ------------------------------------------------------------------ append

    def append(self, events: Sequence[Event], first_seq: int) -> Appended:
        """Make the batch durable: one write, one sync.

        Raises:
            StorageFull: there is no room; the folder is as before, and the next append may succeed.
            StorageFailed: the disk refused; likewise, unless `poisoned` now says why nothing can be appended.
            SessionReadOnly: it is poisoned.
        """
        if self.poisoned is not None:
            raise SessionReadOnly(f"session {self.session_id} is read-only: {self.poisoned}")
        if first_seq != self._seq + 1:
            raise ValueError(f"event {first_seq} cannot follow {self._seq}")
        if self._fd is None and not self._beginning:
            raise ValueError("the folder is closed")
        lines, crc = sealed_batch(self.session_id, events, first_seq, self._crc)
        if self._beginning or self._offset >= self._segment_bytes:
            self._start_segment(lines)
        else:
            self._write(b"".join(lines))
        self._seq, self._crc = self._seq + len(lines), crc
        self._position = Position(file=layout.segment_name(self._segment), offset=self._offset, crc=f"{crc:08x}")
        return Appended(lines, self._position)

    def _write(self, data: bytes) -> None:
        assert self._fd is not None
        try:
            self._disk.write(self._fd, data)
        except OSError as error:
            self._cut_back(self._fd, self._offset)
            raise failure(error, self._journal) from error
        try:
            self._disk.fdatasync(self._fd, "append.journal")
        except OSError as error:
            raise self._poison(error, self._fd, self._offset) from error
        self._offset += len(data)

    def _start_segment(self, lines: Sequence[bytes]) -> None:
        """Begin the next segment with the lines. Once begun, the one before is never appended to again."""
        if not self._beginning:
            self.close()
            self._segment += 1
            self._beginning = True
        data = b"".join([sealed_head(self.session_id, self._segment, self._seq + 1, self._crc), *lines])
        fd = None
        try:
            fd = self._disk.open(layout.segment_path(self.path, self._segment), append=True, truncate=True)
            self._disk.write(fd, data)
        except OSError as error:
            if fd is not None:
                self._cut_back(fd, 0)
                self._disk.close(fd)
            raise failure(error, self._journal) from error
        try:
            self._disk.fdatasync(fd, "segment.journal")
            self._disk.fsync_dir(layout.history_dir(self.path), "segment.history_dir")
        except OSError as error:
            poisoned = self._poison(error, fd, 0)
            self._disk.close(fd)
            self._segment += 1
            raise poisoned from error
        self._fd, self._offset, self._beginning = fd, len(data), False
        self._reader.began(self._segment, self._seq + 1)

    def resume(self) -> None:
        """Go on after a failed sync: in a new segment, which supersedes what the old one holds beyond the last
        acknowledged event.

        Raises:
            StorageFailed: the disk still refuses; it stays poisoned.
        """
        if self.poisoned is None:
            return
        self._start_segment([])
        self.poisoned = None

    @property
    def _journal(self) -> str:
        return f"the journal of session {self.session_id}"

    def _cut_back(self, fd: int, offset: int) -> None:
        """Take back what was not acknowledged."""
        try:
            self._disk.truncate(fd, offset)
        except OSError as error:
            self.poisoned = f"a write failed and could not be taken back: {error.strerror}"

    def _poison(self, error: OSError, fd: int, offset: int) -> StorageFailed:
        """A failed sync leaves the file in doubt, whatever it reads back as: never retried, never trusted."""
        self._cut_back(fd, offset)  # so that a restart does not find in memory what the disk never took
        self.poisoned = f"a sync of its journal failed: {error.strerror}"
        return StorageFailed(f"{self._journal} was not written: {error.strerror}. See to the disk.")

    # ------------------------------------------------------------------ views, reading

    def write_views(self, view: View) -> None:
        """Bring the views up to the view.

        Raises:
            StorageFailed: what was written is right, the rest is as before; write them again later.
        """
        try:
            views.write(self._disk, self.path, view, self._missing, metadata_too=self._metadata_behind)
        except OSError as error:
            raise failure(error, f"the views of session {self.session_id}") from error
        self._missing, self._metadata_behind = [], False

    def read_events(self, after: int, limit: int, up_to: int) -> tuple[list[bytes], int | None]:
        """At most `limit` journal lines with `after` < seq <= `up_to`, and a few MiB at most.

        The second value is None, or the first seq there still is when some after `after` were pruned.

        Raises:
            StorageFailed: the journal cannot be read.
        """
        try:
            return self._reader.read(after, limit, up_to)
        except OSError as error:
            raise StorageFailed(f"{self._journal} cannot be read: {error.strerror}") from error

    def prune(self, segment: int) -> int:
        """Remove the segments up to this one that no snapshot needs; the bytes freed.

        Raises:
            StorageFailed: it could not all be removed.
        """
        try:
            return self._pruned(segment)
        except OSError as error:
            raise failure(error, self._journal) from error

    def _pruned(self, segment: int) -> int:
        head = views.read_snapshot_head(self._disk, self.path)
        if head is None:
            return 0
        # The snapshot that makes them needless must outlive them.
        self._disk.fsync_dir(self.path, "prune.session_dir")
        freed = 0
        for number, _ in self._reader.older_than(head.journal.segment):
            if number > segment:
                break
            path = layout.segment_path(self.path, number)
            size = self._disk.size(path)
            self._reader.dropped(number)
            self._disk.unlink(path)
            # One by one, so that a crash leaves no gap between segments.
            self._disk.fsync_dir(layout.history_dir(self.path), "prune.history_dir")
            freed += size
        return freed

    def close(self) -> None:
        """Give the descriptor back; again is no error."""
        if self._fd is not None:
            self._disk.close(self._fd)
            self._fd = None


def _discard(disk: Disk, directory: str) -> None:
    try:
        if disk.exists(directory):
            disk.rmtree(directory)
    except OSError:
        pass  # the next start sweeps it
