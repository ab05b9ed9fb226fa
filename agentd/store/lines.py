"""The lines of a log that grows: where they are, kept in a few bytes of memory per block, and how one is shown."""

from __future__ import annotations

import codecs
from array import array
from bisect import bisect_left
from threading import Lock

from agentd.model.output import OutputLine
from agentd.store import sgr
from agentd.store.log_file import LogFile

BLOCK = 64 << 10


class LineIndex:
    """For each block of a log, how many lines end before it and in what colours it begins.

    Hold `lock` while calling anything here; always with the same log, which may have grown.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self._forget()

    def _forget(self) -> None:
        self.size = 0  #: bytes of the log that are known
        self.total = 0  #: lines in them; a last one without its line feed counts
        self._ends = 0
        self._before = array("Q")
        self._rendition = sgr.PLAIN
        self._renditions: list[sgr.Rendition] = []
        self._cached: tuple[int, list[int]] = (-1, [])

    def extend(self, log: LogFile) -> None:
        """Read what the log has more than is known; start again if it has less."""
        if log.size < self.size:
            self._forget()
        while self.size < log.size:
            at = self.size % BLOCK
            block = log.read(min(BLOCK - at, log.size - self.size), self.size)
            if not block:
                break  # cut meanwhile
            if at == 0:
                self._before.append(self._ends)
                self._renditions.append(self._rendition)
            self._ends += block.count(b"\n")
            self._rendition = sgr.after(self._rendition, block)
            self.size += len(block)
            self.total = self._ends + (not block.endswith(b"\n"))
            self._cached = (-1, [])

    def bounds(self, log: LogFile, number: int) -> tuple[int, int]:
        """Offsets of the first byte of a line and of its line feed (or the end of the log); 1 <= number <= total."""
        start = self._end(log, number - 1) + 1 if number > 1 else 0
        return start, self._end(log, number)

    def sgr_at(self, log: LogFile, offset: int) -> str:
        """The SGR parameters in force in front of a byte that the log has."""
        block = offset // BLOCK
        text = log.read(offset - block * BLOCK, block * BLOCK)
        return sgr.after(self._renditions[block], text).sgr

    def _end(self, log: LogFile, number: int) -> int:
        """The offset of the line feed that ends the line."""
        if number > self._ends:
            return self.size
        block = bisect_left(self._before, number) - 1
        if self._cached[0] != block:
            self._cached = (block, _line_feeds(log.read(BLOCK, block * BLOCK)))
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


def shown_line(log: LogFile, number: int, start: int, end: int, max_bytes: int) -> OutputLine:
    """The line between two offsets, its text cut at a character within `max_bytes`, bad UTF-8 replaced."""
    truncated = end - start > max_bytes
    raw = log.read(min(end - start, max_bytes), start)
    # Not final: a character that the cut went through is left out rather than shown as damage.
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(raw, final=not truncated)
    return OutputLine(line=number, offset=start, length=end - start, text=text, truncated=truncated)
