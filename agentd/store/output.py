"""The output of an attempt: raw bytes in arrival order, windows of its lines, and search. Blocking.

A log may be larger than memory and grows while it is read, so everything here works in blocks of a fixed size; between
blocks other threads run. Lines end at `\\n` and nowhere else: `\\r`, escape sequences and bytes that are not UTF-8 are
part of the line.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

import msgspec

from agentd.errors import Invalid, RangeNotSatisfiable
from agentd.model.requests import OutputLines, OutputMatches
from agentd.model.task import Value
from agentd.store import inside
from agentd.store.lines import LineIndexes, LogFile, shown_line
from agentd.store.search import MAX_TEXT, Needle, Search

BLOCK = 256 << 10
STREAMS = ("out", "err")

#: Offsets and lengths.
Spans = Generator[tuple[int, int], None, None]


class OutputRange:
    """Bytes of a log to be sent: an iterator of blocks. `length` is known beforehand.

    It may be closed while another thread reads a block, as when a client leaves; that block is then the last.
    """

    def __init__(self, fd: int, spans: Spans, length: int) -> None:
        self._fd = fd
        self._spans = spans
        self._lock = Lock()
        self._closed = False
        self._blocks = self._read()
        self.length = length

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            with self._lock:
                return next(self._blocks)
        finally:
            if self._closed:
                self.close()

    def close(self) -> None:
        """Let go of the files. Again: no effect."""
        self._closed = True
        if not self._lock.acquire(blocking=False):
            return  # the thread that reads does it
        try:
            self._blocks.close()
            self._spans.close()
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
        finally:
            self._lock.release()

    def _read(self) -> Generator[bytes, None, None]:
        left, pieces, held = self.length, list[bytes](), 0
        for offset, size in self._spans:
            end = offset + min(size, left)
            left -= end - offset
            while offset < end:
                block = os.pread(self._fd, min(BLOCK - held, end - offset), offset)
                if not block:
                    break  # cut meanwhile
                offset += len(block)
                # Chunks of one stream may be a few bytes each; they are gathered into blocks.
                pieces.append(block)
                held += len(block)
                if held == BLOCK:
                    yield b"".join(pieces)
                    pieces, held = [], 0
            if not left:
                break
        if pieces:
            yield b"".join(pieces)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class OutputLog:
    """The log of one attempt in a session's directory; one that does not exist (yet, or any more) is empty.

    `indexes` is what the caller keeps of line positions between calls.
    """

    def __init__(self, session_dir: Path, task_id: str, attempt: int, indexes: LineIndexes | None = None) -> None:
        self._dir = session_dir / "output"
        (self._name,) = inside.checked(f"{task_id}.{attempt}", "task_id")
        self._indexes = indexes if indexes is not None else LineIndexes(1)

    def size(self, stream: str | None = None) -> int:
        """Bytes in the log, or those of one stream (`out`, `err`) as far as the index tells."""
        with self._opened(".log") as log:
            if stream is None:
                return log.size
            with self._opened(".idx") as index:
                return sum(n for _, n in _spans(index, log.size, stream))

    def open_range(self, start: int = 0, end: int | None = None, stream: str | None = None) -> OutputRange:
        """The bytes from `start` up to, not including, `end` (default: up to the size now) of the log or one stream.

        Raises:
            RangeNotSatisfiable: the start lies beyond the end of the log.
            Invalid: no such stream.
        """
        total = self.size(stream)
        end = total if end is None else min(end, total)
        if not 0 <= start <= total or end < start:
            raise RangeNotSatisfiable(f"the output has {total} bytes; {start} to {end} lies outside")
        log = self._opened(".log")
        spans = _whole(start, end - start) if stream is None else self._stream_spans(start, log.size, stream)
        return OutputRange(log.fd, spans, end - start)

    def tail_from(self, offset: int, max_bytes: int) -> bytes:
        """At most `max_bytes` from the offset on; empty at the end. One read, for following a log that grows."""
        with self._opened(".log") as log:
            return log.read(max_bytes, offset) if offset < log.size else b""

    def lines(self, first_line: int, count: int, max_line_bytes: int, *, ended: bool = False) -> OutputLines:
        """At most `count` lines from number `first_line` (1-based; -100 is the hundredth from the end) on.

        The first call reads the log once to learn where its lines are; later ones only what was added. `ended` is
        passed on: only the caller knows whether more will come.

        Raises:
            Invalid: `first_line` is 0.
        """
        if first_line == 0:
            raise Invalid.field("line", "lines count from 1; use -1 for the last one")
        with self._opened(".log") as log:
            index = self._indexes.of(self._dir / self._name, log.identity)
            with index.lock:
                index.extend(log.fd, log.size)
                total = index.total
                first = first_line if first_line > 0 else max(1, total + 1 + first_line)
                shown = []
                for number in range(first, min(first + count, total + 1)):
                    start, end = index.bounds(log.fd, number)
                    shown.append(shown_line(log, number, start, end, max_line_bytes))
                return OutputLines(lines=tuple(shown), total_lines=total, size=index.size, ended=ended)

    def search(
        self, text: str, limit: int, max_line_bytes: int, *, from_line: int = 1, ignore_case: bool = False
    ) -> OutputMatches:
        """The first `limit` lines with the text, from a line on, and how many there are in all of the rest.

        Raises:
            Invalid: the text is empty, longer than `MAX_TEXT` characters or has a line feed; `from_line` is under 1.
        """
        if not 0 < len(text) <= MAX_TEXT or "\n" in text:
            raise Invalid.field("q", f"must be 1 to {MAX_TEXT} characters without a line feed")
        if from_line < 1:
            raise Invalid.field("from_line", "lines count from 1")
        with self._opened(".log") as log:
            index = self._indexes.of(self._dir / self._name, log.identity)
            with index.lock:
                index.extend(log.fd, log.size)
                if from_line > index.total:
                    return OutputMatches(matches=(), total=0, size=index.size)
                offset, _ = index.bounds(log.fd, from_line)
            search = Search(log, index, Needle(text, ignore_case), limit, max_line_bytes)
            search.run(offset, from_line)
            return OutputMatches(matches=tuple(search.found), total=search.total, size=index.size)

    def _opened(self, suffix: str) -> LogFile:
        try:
            with inside.directory(self._dir) as output:
                return LogFile(inside.open_file(output, self._name + suffix))
        except (FileNotFoundError, NotADirectoryError):
            return LogFile(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def _stream_spans(self, start: int, size: int, stream: str) -> Spans:
        """Where the stream's bytes lie in the log, from its own offset `start` on."""
        with self._opened(".idx") as index:
            for offset, length in _spans(index, size, stream):
                if start < length:
                    yield offset + start, length - start
                start = max(0, start - length)


def _whole(start: int, length: int) -> Spans:
    yield start, length


class _Chunk(Value, frozen=True, kw_only=True):
    """A line of the index; one without `n` tells of bytes that were lost."""

    o: int = 0
    n: int = 0
    s: str = ""


_chunks = msgspec.json.Decoder(_Chunk)


def _spans(index: LogFile, size: int, stream: str) -> Spans:
    """Offset and length of the stream's chunks in the first `size` bytes; a torn or foreign line is passed over."""
    if stream not in STREAMS:
        raise Invalid.field("stream", "must be out or err")
    offset, rest = 0, b""
    while block := index.read(BLOCK, offset):
        offset += len(block)
        *whole, rest = (rest + block).split(b"\n")
        for record in whole:
            try:
                chunk = _chunks.decode(record)
            except msgspec.DecodeError:
                continue
            if chunk.s == stream and chunk.n > 0 and 0 <= chunk.o < size:
                yield chunk.o, min(chunk.n, size - chunk.o)
