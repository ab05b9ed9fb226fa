"""The lines of a log that grows: where they are, kept in a few bytes of memory per block, and how one is shown."""

from __future__ import annotations

import codecs
import os
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from types import TracebackType
from typing import Self

from agentd.model.requests import OutputLine

BLOCK = 64 << 10


class LogFile:
    """An open log: its descriptor, and size and identity as they were when it was opened."""

    def __init__(self, fd: int) -> None:
        found = os.fstat(fd)
        self.fd = fd
        self.size = found.st_size
        self.identity = (found.st_dev, found.st_ino)

    def read(self, n: int, offset: int) -> bytes:
        return os.pread(self.fd, n, offset)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)


class LineIndex:
    """For each block of a log, how many lines end before it. Hold `lock` while calling anything here."""

    def __init__(self, identity: Hashable) -> None:
        self.identity = identity
        self.lock = Lock()
        self._forget()

    def _forget(self) -> None:
        self.size = 0  #: bytes of the log that are known
        self.total = 0  #: lines in them; a last one without its line feed counts
        self._ends = 0
        self._before = array("Q")
        self._cached: tuple[int, list[int]] = (-1, [])

    def extend(self, fd: int, size: int) -> None:
        """Read what the log has more than is known, up to `size`; start again if it has less."""
        if size < self.size:
            self._forget()
        while self.size < size:
            at = self.size % BLOCK
            block = os.pread(fd, min(BLOCK - at, size - self.size), self.size)
            if not block:
                break  # cut meanwhile
            if at == 0:
                self._before.append(self._ends)
            self._ends += block.count(b"\n")
            self.size += len(block)
            self.total = self._ends + (not block.endswith(b"\n"))
            self._cached = (-1, [])

    def bounds(self, fd: int, number: int) -> tuple[int, int]:
        """Offsets of the first byte of a line and of its line feed (or the end of the log); 1 <= number <= total."""
        start = self._end(fd, number - 1) + 1 if number > 1 else 0
        return start, self._end(fd, number)

    def _end(self, fd: int, number: int) -> int:
        """The offset of the line feed that ends the line."""
        if number > self._ends:
            return self.size
        block = bisect_left(self._before, number) - 1
        if self._cached[0] != block:
            self._cached = (block, _line_feeds(os.pread(fd, BLOCK, block * BLOCK)))
        within = number - self._before[block] - 1
        feeds = self._cached[1]
        return block * BLOCK + feeds[within] if within < len(feeds) else self.size


def _line_feeds(block: bytes) -> list[int]:
    found = []
    at = block.find(b"\n")
    while at >= 0:
        found.append(at)
        at = block.find(b"\n", at + 1)
    return found


class LineIndexes:
    """The line indexes of the logs looked at last, at most `limit`; owned by the caller, shared between threads."""

    def __init__(self, limit: int = 64) -> None:
        self._limit = limit
        self._lock = Lock()
        self._kept: OrderedDict[Hashable, LineIndex] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, log: Hashable, identity: Hashable) -> LineIndex:
        """The index of a log; an empty one if the log is another file than it was."""
        with self._lock:
            index = self._kept.pop(log, None)
            if index is None or index.identity != identity:
                index = LineIndex(identity)
            self._kept[log] = index
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)
            return index


def shown_line(log: LogFile, number: int, start: int, end: int, max_bytes: int) -> OutputLine:
    """The line between two offsets, its text cut at a character within `max_bytes`, bad UTF-8 replaced."""
    truncated = end - start > max_bytes
    raw = log.read(min(end - start, max_bytes), start)
    # Not final: a character that the cut went through is left out rather than shown as damage.
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(raw, final=not truncated)
    return OutputLine(line=number, offset=start, text=text, truncated=truncated)
