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

from msgspec.structs import replace

from agentd.errors import Invalid, RangeNotSatisfiable
from agentd.model.output import OutputLine, OutputLines, OutputMatches
from agentd.store import inside, layout
from agentd.store.chunks import STREAMS, ChunkedLog
from agentd.store.lines import shown_line
from agentd.store.log_file import LogFile
from agentd.store.log_index import LogIndex, LogIndexes
from agentd.store.search import MAX_TEXT, Needle, Search

BLOCK = 256 << 10


class OutputRange:
    """Bytes of a log to be sent: an iterator of blocks. `length` is known beforehand.

    It may be closed while another thread reads a block, as when a client leaves; that block is then the last.
    """

    def __init__(self, log: LogFile, start: int, length: int) -> None:
        self._log = log
        self._spans = log.spans(start)
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
            self._log.close()
        finally:
            self._lock.release()

    def _read(self) -> Generator[bytes, None, None]:
        left, pieces, held = self.length, list[bytes](), 0
        for offset, size in self._spans:
            end = offset + min(size, left)
            left -= end - offset
            while offset < end:
                block = os.pread(self._log.fd, min(BLOCK - held, end - offset), offset)
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

    Where a `stream` (`out`, `err`) can be named, all offsets and numbers are those of its bytes alone, as far as the
    index of chunks tells of them; any other raises Invalid. `indexes` is what the caller keeps of logs between calls.
    """

    def __init__(self, session_dir: Path, task_id: str, attempt: int, indexes: LogIndexes | None = None) -> None:
        self._session_dir = session_dir
        (self._name,) = inside.checked(f"{task_id}.{attempt}", "task_id")
        self._indexes = indexes if indexes is not None else LogIndexes(1)

    def size(self, stream: str | None = None) -> int:
        """Bytes in the log or the stream."""
        with self._opened(stream) as log:
            return log.size

    def extent(self, stream: str | None = None) -> tuple[int, int]:
        """Bytes and lines in the log or the stream. What was read before is not read again."""
        with self._opened(stream) as log:
            index = self._known(log).lines[stream]
            with index.lock:
                index.extend(log)
                return index.size, index.total

    def open_range(self, start: int = 0, end: int | None = None, stream: str | None = None) -> OutputRange:
        """The bytes from `start` up to, not including, `end` (default: up to the size now) of the log or the stream.

        Raises:
            RangeNotSatisfiable: the start lies beyond the end of the log.
        """
        log = self._opened(stream)
        end = log.size if end is None else min(end, log.size)
        if not 0 <= start <= log.size or end < start:
            log.close()
            raise RangeNotSatisfiable(f"the output has {log.size} bytes; {start} to {end} lies outside")
        return OutputRange(log, start, end - start)

    def tail_from(self, offset: int, max_bytes: int) -> bytes:
        """At most `max_bytes` from the offset on; empty at the end. One read, for following a log that grows."""
        with self._opened() as log:
            return log.read(max_bytes, offset) if offset < log.size else b""

    def lines(
        self,
        first_line: int,
        count: int,
        max_line_bytes: int,
        *,
        ended: bool = False,
        stream: str | None = None,
        detail: bool = False,
    ) -> OutputLines:
        """At most `count` lines from number `first_line` (1-based; -100 is the hundredth from the end) on.

        The first call reads the log once to learn where its lines are; later ones only what was added. `ended` is
        passed on: only the caller knows whether more will come. `detail` asks for when and where each line was written.

        Raises:
            Invalid: `first_line` is 0.
        """
        if first_line == 0:
            raise Invalid.field("line", "lines count from 1; use -1 for the last one")
        with self._opened(stream, detail=detail) as log:
            index = self._known(log).lines[stream]
            with index.lock:
                index.extend(log)
                total = index.total
                first = first_line if first_line > 0 else max(1, total + 1 + first_line)
                shown = []
                for number in range(first, min(first + count, total + 1)):
                    start, end = index.bounds(log, number)
                    shown.append(shown_line(log, number, start, end, max_line_bytes))
                sgr = index.sgr_at(log, shown[0].offset) if shown else ""
                size = index.size
            if detail:
                assert isinstance(log, ChunkedLog)
                shown = [_detailed(log, line) for line in shown]
            return OutputLines(lines=tuple(shown), total_lines=total, size=size, ended=ended, sgr=sgr)

    def search(
        self,
        text: str,
        limit: int,
        max_line_bytes: int,
        *,
        from_line: int = 1,
        ignore_case: bool = False,
        stream: str | None = None,
    ) -> OutputMatches:
        """The first `limit` lines with the text, from a line on, and how many there are in all of the rest.

        Raises:
            Invalid: the text is empty, longer than `MAX_TEXT` characters or has a line feed; `from_line` is under 1.
        """
        if not 0 < len(text) <= MAX_TEXT or "\n" in text:
            raise Invalid.field("q", f"must be 1 to {MAX_TEXT} characters without a line feed")
        if from_line < 1:
            raise Invalid.field("from_line", "lines count from 1")
        with self._opened(stream) as log:
            index = self._known(log).lines[stream]
            with index.lock:
                index.extend(log)
                if from_line > index.total:
                    return OutputMatches(matches=(), total=0, size=index.size)
                offset, _ = index.bounds(log, from_line)
            search = Search(log, index, Needle(text, ignore_case), limit, max_line_bytes)
            search.run(offset, from_line)
            return OutputMatches(matches=tuple(search.found), total=search.total, size=index.size)

    def _opened(self, stream: str | None = None, *, detail: bool = False) -> LogFile:
        """The log, or what reads the stream alone; with its chunks if details of them are asked for."""
        if stream not in (None, *STREAMS):
            raise Invalid.field("stream", "must be out or err")
        if stream is None and not detail:
            return self._file(".log")
        chunks = self._file(".idx")  # before the log: all it tells of is then in the log
        log = self._file(".log")
        return ChunkedLog(log, chunks, self._known(log).chunks, stream)

    def _file(self, suffix: str) -> LogFile:
        try:
            with inside.below(self._session_dir, layout.OUTPUT) as output:
                return LogFile(inside.open_file(output, self._name + suffix))
        except (FileNotFoundError, NotADirectoryError):
            return LogFile(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def _known(self, log: LogFile) -> LogIndex:
        return self._indexes.of(self._session_dir / self._name, log.identity)


def _detailed(log: ChunkedLog, line: OutputLine) -> OutputLine:
    chunk = log.chunk_at(line.offset)
    return replace(line, at=chunk.t if chunk else None, stream=chunk.s if chunk else None)
