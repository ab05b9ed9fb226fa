"""The end of a journal: one write and one sync a batch, and what is done when the disk refuses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from agentd.errors import SessionReadOnly, StorageFailed
from agentd.model.events import Event
from agentd.store import layout
from agentd.store.disk import Disk, failure
from agentd.store.journal import Position, sealed_batch, sealed_head


class Appended(NamedTuple):
    """A durable batch: its lines, each with its line end, and the position after it. What is over `most` is not in."""

    lines: list[bytes]
    position: Position


class Appender:
    """Appends to the last segment, and begins the next; nothing before `go_on`.

    `on_segment(number, first_seq)` is called when a segment was begun.
    """

    def __init__(self, disk: Disk, path: str, segment_bytes: int, on_segment: Callable[[int, int], None]) -> None:
        self.poisoned: str | None = None  #: why nothing can be appended; `resume` ends it
        self._disk = disk
        self._path = path
        self._session_id = layout.session_id_of(path)
        self._segment_bytes = segment_bytes
        self._on_segment = on_segment
        self._fd: int | None = None
        self._segment = 0
        self._beginning = False  #: the current segment is still to be started
        self._offset = 0  #: bytes of the current segment that are durable
        self._seq = 0
        self._crc = 0

    def go_on(self, fd: int, segment: int, offset: int, seq: int, crc: int) -> None:
        """Continue the open segment, of which `offset` bytes count, after the record with this seq and CRC."""
        self._fd, self._segment, self._offset, self._seq, self._crc = fd, segment, offset, seq, crc

    def append(self, events: Sequence[Event], first_seq: int, most: float = math.inf) -> Appended:
        """Make the batch durable, or its beginning where it is more than `most` bytes: one write, one sync.

        Raises:
            StorageFull: there is no room; the folder is as before, and the next append may succeed.
            StorageFailed: the disk refused; likewise, unless `poisoned` now says why nothing can be appended.
            SessionReadOnly: it is poisoned.
        """
        if self.poisoned is not None:
            raise SessionReadOnly(f"session {self._session_id} is read-only: {self.poisoned}")
        if first_seq != self._seq + 1:
            raise ValueError(f"event {first_seq} cannot follow {self._seq}")
        if self._fd is None and not self._beginning:
            raise ValueError("the folder is closed")
        lines, crc = sealed_batch(self._session_id, events, first_seq, self._crc, most)
        if self._beginning or self._offset >= self._segment_bytes:
            self._start_segment(lines)
        else:
            self._write(b"".join(lines))
        self._seq, self._crc = self._seq + len(lines), crc
        position = Position(file=layout.segment_name(self._segment), offset=self._offset, crc=f"{crc:08x}")
        return Appended(lines, position)

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
        if not self._disk.linked(self._fd):
            self.poisoned = "its journal was removed while the daemon ran"
            raise StorageFailed(f"{self._journal} was removed; put it back, or delete the session")
        self._offset += len(data)

    def _start_segment(self, lines: Sequence[bytes]) -> None:
        """Begin the next segment with the lines. Once begun, the one before is never appended to again."""
        if not self._beginning:
            self.close()
            self._segment += 1
            self._beginning = True
        data = b"".join([sealed_head(self._session_id, self._segment, self._seq + 1, self._crc), *lines])
        fd = None
        try:
            fd = self._disk.open(layout.segment_path(self._path, self._segment), append=True, truncate=True)
            self._disk.write(fd, data)
        except OSError as error:
            if fd is not None:
                self._cut_back(fd, 0)
                self._disk.close(fd)
            raise failure(error, self._journal) from error
        try:
            self._disk.fdatasync(fd, "segment.journal")
            self._disk.fsync_dir(layout.history_dir(self._path), "segment.history_dir")
        except OSError as error:
            poisoned = self._poison(error, fd, 0)
            self._disk.close(fd)
            self._segment += 1
            raise poisoned from error
        self._fd, self._offset, self._beginning = fd, len(data), False
        self._on_segment(self._segment, self._seq + 1)

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
        return f"the journal of session {self._session_id}"

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

    def close(self) -> None:
        """Give the descriptor back; again is no error."""
        if self._fd is not None:
            self._disk.close(self._fd)
            self._fd = None
