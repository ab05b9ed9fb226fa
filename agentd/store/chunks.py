"""Who wrote what when: the index of chunks beside a log, and the bytes of one stream read as a log of their own.

The index has a line for each chunk (agentd/engines/local/recorder.py writes it) and may be as large as its log. What is
kept of it is a few numbers for each piece of it; the piece in question is read and parsed again.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from threading import Lock
from typing import NamedTuple

import msgspec

from agentd.model.reading import UNREADABLE
from agentd.model.task import Value
from agentd.store.log_file import LogFile, Spans

#: Bytes of the index that are one piece, and no more than twice as many.
PIECE = 64 << 10
STREAMS = ("out", "err")
#: Bytes of the other stream that are rather read and left out than skipped by a read of their own.
GAP = 4096


class Chunk(Value, frozen=True, kw_only=True):
    """A line of the index; one without `n` tells of bytes that were lost."""

    o: int = 0
    n: int = 0
    s: str = ""
    t: str | None = None


class _Piece(NamedTuple):
    """Chunks, and where each begins: in the log, or among the bytes of their stream."""

    starts: list[int]
    chunks: list[Chunk]


class ChunkIndex:
    """For each piece of an index, what lies before it; shared between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._forget()

    def _forget(self) -> None:
        self._size = 0  #: bytes of the index that are known, whole lines only
        self._log_size = 0
        self._end = 0  #: of the last chunk, in the log
        self._totals = dict.fromkeys(STREAMS, 0)
        self._pieces = array("Q")
        self._before: dict[str | None, array[int]] = {each: array("Q") for each in (None, *STREAMS)}

    def extend(self, file: LogFile, log_size: int) -> None:
        """Read what the file has more than is known; start again if it or the log has less."""
        with self._lock:
            if file.size < self._size or log_size < self._log_size:
                self._forget()
            self._log_size = log_size
            while self._size < file.size:
                block = file.read(min(PIECE, file.size - self._size), self._size)
                whole = block.rfind(b"\n") + 1
                if not whole:
                    if len(block) < PIECE:
                        break  # a line that is being written, or the file was cut meanwhile
                    whole = len(block)  # no line of ours is as long
                if not self._pieces or self._size - self._pieces[-1] >= PIECE:
                    self._begin_piece()
                for chunk in _chunks_in(block[:whole], log_size):
                    self._totals[chunk.s] += chunk.n
                    self._end = max(self._end, chunk.o + chunk.n)
                self._size += whole

    def _begin_piece(self) -> None:
        self._pieces.append(self._size)
        self._before[None].append(self._end)
        for stream in STREAMS:
            self._before[stream].append(self._totals[stream])

    def total(self, stream: str) -> int:
        """Bytes of the stream."""
        with self._lock:
            return self._totals[stream]

    def piece_of(self, stream: str | None, offset: int) -> int:
        """The number of the piece that tells of this byte, if one does."""
        with self._lock:
            return max(0, bisect_right(self._before[stream], offset) - 1)

    def place_of(self, piece: int, stream: str | None) -> tuple[int, int, int] | None:
        """Where a piece begins and ends, and what of the stream (or the log) lies before it; None: there is none."""
        with self._lock:
            if piece >= len(self._pieces):
                return None
            end = self._pieces[piece + 1] if piece + 1 < len(self._pieces) else self._size
            return self._pieces[piece], end, self._before[stream][piece]


class ChunkFile:
    """An open index of chunks and what is known of it; for one thread.

    Open the index before its log: all that it tells of is then in the log, which is written first.
    """

    def __init__(self, file: LogFile, index: ChunkIndex, log_size: int) -> None:
        index.extend(file, log_size)
        self._file = file
        self._index = index
        self._log_size = log_size
        self._cached: tuple[tuple[int, int, int, str | None], _Piece] | None = None

    def total(self, stream: str) -> int:
        """Bytes of the stream."""
        return self._index.total(stream)

    def close(self) -> None:
        """Let go of the file. Again: no effect."""
        self._file.close()

    def spans(self, stream: str, offset: int) -> Spans:
        """Where in the log the stream's bytes lie, from its own offset on."""
        number = self._index.piece_of(stream, offset)
        while (piece := self._piece(number, stream)) is not None:
            first = max(0, bisect_right(piece.starts, offset) - 1)
            for start, chunk in zip(piece.starts[first:], piece.chunks[first:], strict=True):
                skipped = max(0, offset - start)
                if skipped < chunk.n:
                    yield chunk.o + skipped, chunk.n - skipped
            number += 1

    def holding(self, stream: str | None, offset: int) -> Chunk | None:
        """The chunk with this byte of the stream (or of the log); None where the index does not tell."""
        piece = self._piece(self._index.piece_of(stream, offset), stream)
        if piece is None:
            return None
        at = bisect_right(piece.starts, offset) - 1
        found = at >= 0 and offset < piece.starts[at] + piece.chunks[at].n
        return piece.chunks[at] if found else None

    def _piece(self, number: int, stream: str | None) -> _Piece | None:
        place = self._index.place_of(number, stream)
        if place is None:
            return None
        key = (*place, stream)
        if self._cached is None or self._cached[0] != key:
            start, end, before = place
            chunks = _chunks_in(self._file.read(end - start, start), self._log_size)
            if stream is None:
                self._cached = key, _Piece([chunk.o for chunk in chunks], chunks)
            else:
                self._cached = key, _of_stream(stream, chunks, before)
        return self._cached[1]


class ChunkedLog(LogFile):
    """A log with its chunks: all of it, or the bytes of one stream alone, to be read as if they were a log."""

    def __init__(self, log: LogFile, chunks: LogFile, index: ChunkIndex, stream: str | None) -> None:
        super().__init__(log.fd)
        self._chunks = ChunkFile(chunks, index, self.size)
        self.stream = stream
        if stream is not None:
            self.size = self._chunks.total(stream)

    def read(self, n: int, offset: int) -> bytes:
        """At most `n` bytes from the offset on; fewer only where it ends or was cut."""
        if self.stream is None:
            return super().read(n, offset)
        n = min(n, self.size - offset)
        wanted: list[tuple[int, int]] = []
        pieces: list[bytes] = []
        for start, length in self._chunks.spans(self.stream, offset):
            if n <= 0:
                break
            length = min(length, n)
            n -= length
            if wanted and not 0 <= start - sum(wanted[-1]) <= GAP:
                pieces += self._read_near(wanted)
                wanted.clear()
            wanted.append((start, length))
        return b"".join([*pieces, *self._read_near(wanted)])

    def _read_near(self, wanted: list[tuple[int, int]]) -> list[bytes]:
        """What lies at these places, which follow each other closely, with one read."""
        if not wanted:
            return []
        first, end = wanted[0][0], sum(wanted[-1])
        text = super().read(end - first, first)
        return [text[start - first : start - first + length] for start, length in wanted]

    def spans(self, offset: int) -> Spans:
        """Where the bytes from the offset on lie in the file."""
        return super().spans(offset) if self.stream is None else self._chunks.spans(self.stream, offset)

    def chunk_at(self, offset: int) -> Chunk | None:
        """The chunk that holds this byte; None where the index does not tell."""
        return self._chunks.holding(self.stream, offset)

    def close(self) -> None:
        """Let go of both files. Again: no effect."""
        super().close()
        self._chunks.close()


_decoder = msgspec.json.Decoder(Chunk)


def _chunks_in(text: bytes, log_size: int) -> list[Chunk]:
    """The chunks of a piece, as far as they lie in the log; a torn or foreign line is passed over."""
    found = []
    for chunk in _decoded(text):
        if chunk.s in STREAMS and chunk.n > 0 and 0 <= chunk.o < log_size:
            left = log_size - chunk.o
            found.append(chunk if chunk.n <= left else msgspec.structs.replace(chunk, n=left))
    return found


def _decoded(text: bytes) -> list[Chunk]:
    try:
        return _decoder.decode_lines(text)
    except UNREADABLE:
        pass  # rare: line by line, then
    found = []
    for line in text.split(b"\n"):
        try:
            found.append(_decoder.decode(line))
        except UNREADABLE:
            continue
    return found


def _of_stream(stream: str, chunks: list[Chunk], before: int) -> _Piece:
    own = [chunk for chunk in chunks if chunk.s == stream]
    starts = []
    for chunk in own:
        starts.append(before)
        before += chunk.n
    return _Piece(starts, own)
