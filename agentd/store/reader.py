"""Events out of a journal by seq: the right segment by its header, the right place in it by halving.

What the scan or the append has verified may have rotted since: each line must continue the one before. It never reads
beyond what the caller knows is durable.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from agentd.store import layout
from agentd.store.disk import Disk
from agentd.store.journal import crc_of, holds_before, read_head, read_segment, segments, seq_of

_CHUNK = 256 << 10
_PROBE = 4 << 10
_ANSWER_BYTES = 4 << 20  #: an answer ends with the line that reaches this


class Reader:
    """Reads one session's journal; beside the appends to it, which only call `began`."""

    def __init__(self, disk: Disk, session_dir: str) -> None:
        self._disk = disk
        self._dir = session_dir
        self.segments: list[tuple[int, int]] | None = None  #: number and first seq, in order; None: not read yet

    def began(self, number: int, first_seq: int) -> None:
        """A segment was started."""
        if self.segments is not None and (number, first_seq) not in self.segments:
            self.segments = [*self.segments, (number, first_seq)]

    def dropped(self, number: int) -> None:
        """A segment is being removed."""
        self.segments = [each for each in self._known() if each[0] != number]

    def older_than(self, number: int) -> list[tuple[int, int]]:
        """The segments before this one, each with the last seq that counts in it."""
        known = self._known()
        return [(n, after[1] - 1) for (n, _), after in itertools.pairwise(known) if n < number]

    def read(self, after: int, limit: int, up_to: int) -> tuple[list[bytes], int | None]:
        """Lines with `after` < seq <= `up_to`, at most `limit` and about 4 MiB; and the first seq kept, if it is later.

        Raises OSError, and ValueError where a line is not what was written.
        """
        known = self._known()
        if not known or after >= up_to:
            return [], None
        gap = known[0][1] if known[0][1] > after + 1 else None
        lines: list[bytes] = []
        size = 0
        for index, (number, first_seq) in enumerate(known):
            last = min(up_to, known[index + 1][1] - 1) if index + 1 < len(known) else up_to
            if last <= after or last < first_seq:
                continue
            for line in self._lines(number, after, last):
                lines.append(line)
                size += len(line)
                if len(lines) >= limit or size >= _ANSWER_BYTES:
                    return lines, gap
        return lines, gap

    def _known(self) -> list[tuple[int, int]]:
        if self.segments is None:
            found = [read_segment(self._disk, self._dir, number) for number in segments(self._disk, self._dir)]
            sound = [(each.number, each.head.first_seq) for each in found if each.head]
            for each in found:
                later = next((first_seq for number, first_seq in sound if number > each.number), None)
                if each.head is None and later is not None and self._has_records(each.number, later):
                    raise ValueError(f"the first line of {layout.segment_name(each.number)} is damaged")
            self.segments = sound
        return self.segments

    def _has_records(self, number: int, before: int) -> bool:
        """Whether a segment without a sound header is more than the beginning of one that failed."""
        return holds_before(self._disk.read(layout.segment_path(self._dir, number)), before)

    def _lines(self, number: int, after: int, last: int) -> Iterator[bytes]:
        path = layout.segment_path(self._dir, number)
        fd = self._disk.open(path)
        try:
            offset = self._place(fd, self._disk.size(path), after)
            known: tuple[int, int] | None = None  # the seq and CRC that the next line continues
            if offset == 0:
                if (head := read_head(self._disk.pread(fd, _PROBE, 0))) is None:
                    raise ValueError("the first line of a segment is damaged")
                offset, known = head[1], (head[0].first_seq - 1, int(head[0].prev_crc, 16))
            rest = b""
            while data := self._disk.pread(fd, _CHUNK, offset):
                offset += len(data)
                *whole, rest = (rest + data).split(b"\n")
                for line in whole:
                    if known is None:  # one at or before `after`: only what follows is asked for
                        known = _told_by(line)
                        continue
                    seq, crc = known[0] + 1, crc_of(line, known[1])
                    if crc is None or seq_of(line) != seq:
                        raise ValueError(f"event {seq} is damaged")
                    known = (seq, crc)
                    if seq > after:
                        yield line + b"\n"
                    if seq == last:
                        return
            raise ValueError(f"event {known[0] + 1 if known else after + 1} is missing")
        finally:
            self._disk.close(fd)

    def _place(self, fd: int, size: int, after: int) -> int:
        """An offset at a line's start, at or before the first record beyond `after` and not far from it."""
        low, high = 0, size
        while high - low > _CHUNK:
            middle = (low + high) // 2
            start, seq = self._record_from(fd, middle, high)
            if seq is not None and seq <= after:
                low = start
            else:
                high = middle
        return low

    def _record_from(self, fd: int, offset: int, end: int) -> tuple[int, int | None]:
        """The first line that starts behind `offset`, and its seq; None where there is none before `end`."""
        while offset < end:
            data = self._disk.pread(fd, _PROBE, offset)
            found = data.find(b"\n")
            if found >= 0:
                start = offset + found + 1
                return start, seq_of(self._disk.pread(fd, 64, start))
            if not data:
                break
            offset += len(data)
        return end, None


def _told_by(line: bytes) -> tuple[int, int]:
    """The seq and CRC that a record says it has. Raises ValueError: it says none."""
    seq = seq_of(line)
    if seq is None:
        raise ValueError("a line that begins no record is where one was")
    return seq, int(line[-10:-2], 16)
