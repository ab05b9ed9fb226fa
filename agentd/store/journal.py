"""The lines of a journal: how each is sealed with a chained CRC, and the scan that believes a line only if it fits.

A segment begins with a header that carries the CRC and seq it continues, so a scan may start at any segment, and a
segment whose disk failed can be left behind: what it holds beyond the next header's `first_seq` is superseded.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from agentd.errors import SessionReadOnly
from agentd.model.events import Event, TaskCreated
from agentd.model.reading import read
from agentd.model.task import Value
from agentd.store import layout
from agentd.store.disk import Disk

_CRC_LENGTH = len(b',"crc":"00000000"}')
_RECORD = re.compile(rb'\{"seq":([0-9]{1,18}),"b":([0-9]{1,18}),"session_id":"')
# A line may also begin behind one byte that was a line end until a bit of it flipped; never behind , [ or :,
# which precede an object inside a record.
_LATER = re.compile(rb'(?:^|\n|\}[^,\[:]|\x00)\{"seq":([0-9]{1,18}),"b":([0-9]{1,18}),"session_id":"')
#: The end of the first record of a batch. No text within a record can look like it: its quotes are escaped.
_TOGETHER = re.compile(rb',"batch":([0-9]{1,6}),"crc":"[0-9a-f]{8}"\}')
_TOGETHER_LENGTH = len(b',"batch":000000') + _CRC_LENGTH
_HEADER_CHUNK = 4096


class Head(Value, frozen=True, kw_only=True):
    """The first line of a segment."""

    format: int
    session_id: str
    segment: int
    first_seq: int
    prev_crc: str
    crc: str


class Position(Value, frozen=True, kw_only=True):
    """The end of a record: the segment's name, the offset behind the record, and its CRC."""

    file: str
    offset: int
    crc: str

    @property
    def segment(self) -> int:
        """The segment's number; 0 if the name is none."""
        return layout.segment_number(self.file) or 0


class Torn(NamedTuple):
    """Bytes at the end of the journal that were never acknowledged."""

    segment: int
    offset: int
    data: bytes

    @property
    def records(self) -> int:
        """How many lines, whole or not."""
        return sum(1 for line in self.data.split(b"\n") if line)


def sealed(body: bytes, crc: int) -> tuple[bytes, int]:
    """The line of a JSON object that still lacks its closing brace, and the CRC that the next line continues."""
    crc = zlib.crc32(body, crc)
    return b'%b,"crc":"%08x"}\n' % (body, crc), crc


def sealed_head(session_id: str, segment: int, first_seq: int, crc: int) -> bytes:
    """The first line of a segment that continues after `first_seq - 1`. Records go on from `crc`, not from its own."""
    body = b'{"format":%d,"session_id":%b,"segment":%d,"first_seq":%d,"prev_crc":"%08x"'
    return sealed(body % (layout.FORMAT, msgspec.json.encode(session_id), segment, first_seq, crc), crc)[0]


def sealed_batch(
    session_id: str, events: Sequence[Event], first_seq: int, crc: int, most: float = math.inf
) -> tuple[list[bytes], int]:
    """One line per event; `b`, the batch's first seq, tells a torn batch from damage before a later one.

    Once there are `most` bytes, the rest is left out, but for what counts together with the last line.
    """
    lines: list[bytes] = []
    owner = msgspec.json.encode(session_id)
    size = whole = 0
    for seq, event in enumerate(events, first_seq):
        if len(lines) >= whole:
            if size >= most:
                break
            whole = len(lines) + (event.batch if isinstance(event, TaskCreated) else 1)
        fields = msgspec.json.encode(event)[1:-1]
        line, crc = sealed(b'{"seq":%d,"b":%d,"session_id":%b,%b' % (seq, first_seq, owner, fields), crc)
        lines.append(line)
        size += len(line)
    return lines, crc


def crc_of(line: bytes, crc: int) -> int | None:
    """The CRC of a line without its end, if it continues `crc`; else None."""
    body = len(line) - _CRC_LENGTH
    if body < 0:
        return None
    found = zlib.crc32(memoryview(line)[:body], crc)
    return found if line[body:] == b',"crc":"%08x"}' % found else None


def read_head(data: bytes) -> tuple[Head, int] | None:
    """The header at the start of a segment and its length in bytes; None if there is no sound one."""
    end = data.find(b"\n")
    if end < 0:
        return None
    try:
        head = read(data[:end], Head)
        crc = crc_of(data[:end], int(head.prev_crc, 16))
    except (msgspec.MsgspecError, ValueError):
        return None
    return (head, end + 1) if crc is not None else None


def seq_of(line: bytes) -> int | None:
    """The seq of a record; None if it is not one."""
    match = _RECORD.match(line)
    return int(match[1]) if match else None


def together(line: bytes) -> int:
    """How many records, this one and those that follow, are there together or not at all (`TaskCreated.batch`)."""
    at = line.rfind(b',"batch":', max(0, len(line) - _TOGETHER_LENGTH))
    match = _TOGETHER.fullmatch(line, at) if at >= 0 else None
    return int(match[1]) if match else 1


def has_later_batch(data: bytes, seq: int) -> bool:
    """Whether a batch begins after `seq + 1`: then the one at `seq + 1` had been synced, and its loss is damage."""
    return any(int(match[2]) > seq + 1 for match in _LATER.finditer(data))


def holds_before(data: bytes, seq: int) -> bool:
    """Whether there is a trace of a record before `seq`."""
    return any(int(match[1]) < seq for match in _LATER.finditer(data))


def segments(disk: Disk, session_dir: str) -> list[int]:
    """The numbers of the journal's segments, in order."""
    names = disk.listdir(layout.history_dir(session_dir))
    return sorted(n for name in names if (n := layout.segment_number(name)) is not None)


class Segment(NamedTuple):
    """A segment that is there; `head` is None when its header is not sound."""

    number: int
    head: Head | None
    start: int  #: where its records begin


def read_segment(disk: Disk, session_dir: str, number: int) -> Segment:
    """A segment by its header."""
    fd = disk.open(layout.segment_path(session_dir, number))
    try:
        found = read_head(disk.pread(fd, _HEADER_CHUNK, 0))
    finally:
        disk.close(fd)
    if found is None or found[0].segment != number:
        return Segment(number, None, 0)
    return Segment(number, found[0], found[1])


class Scan:
    """A walk over the journal, from the first segment or from a position, that stops where nothing more fits.

    After the iteration, `seq` and `position` are those of the last sound record, `torn` is what follows it, `last`
    is the segment that appends continue and `end` the length of what is sound in it.

    Iterating raises SessionReadOnly where a sound record must have been, and OSError.
    """

    def __init__(self, disk: Disk, session_dir: str, *, after: int = 0, position: Position | None = None) -> None:
        self._disk = disk
        self._dir = session_dir
        self._session_id = layout.session_id_of(session_dir)
        self._from = position
        self.segments: list[Segment] = []
        self.seq = after
        self.position = position
        self.last: Segment | None = None
        self.end = 0
        self.torn: list[Torn] = []
        self._crc = int(position.crc, 16) if position else 0

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        first = self._from.segment if self._from else 0
        numbers = [n for n in segments(self._disk, self._dir) if n >= first]
        self.segments = found = [read_segment(self._disk, self._dir, number) for number in numbers]
        if not found or (self._from and found[0].number != first):
            raise SessionReadOnly(f"{layout.segment_name(first or 1)} is missing from history/")
        for index, segment in enumerate(found):
            limit = next((each.head.first_seq for each in found[index + 1 :] if each.head), None)
            start = self._start(index, segment, limit)
            if start is not None:
                yield from self._records(segment, start, limit)
        if self.last is None:
            raise SessionReadOnly(
                f"no segment in history/ has a sound first line, {layout.segment_name(found[0].number)} first"
            )

    def _start(self, index: int, segment: Segment, limit: int | None) -> int | None:
        """Where to read on in the segment; None to pass it over."""
        name = layout.segment_name(segment.number)
        head = segment.head
        if index == 0 and self._from is not None:
            if head is None:
                raise SessionReadOnly(f"{name}: its first line is damaged")
            return self._from.offset
        if head is None:
            # The start of a segment that failed: superseded by a later one, or else torn.
            data = self._disk.read(layout.segment_path(self._dir, segment.number))
            if limit is None:
                self._tear(segment.number, 0, data)
            elif (self.last is not None and limit != self.seq + 1) or holds_before(data, limit):
                raise SessionReadOnly(f"{name}: its first line is damaged")
            return None
        if head.format > layout.FORMAT:
            raise SessionReadOnly(f"{name} has format {head.format}; this agentd reads up to {layout.FORMAT}")
        if head.session_id != self._session_id:
            raise SessionReadOnly(f"{name} belongs to session {head.session_id}; give the directory that name again")
        if self.last is None:
            self.seq, self._crc = head.first_seq - 1, int(head.prev_crc, 16)
        if head.first_seq != self.seq + 1 or head.prev_crc != f"{self._crc:08x}":
            raise SessionReadOnly(
                f"{name} continues after event {head.first_seq - 1}, the segment before ends at {self.seq}"
            )
        return segment.start

    def _records(self, segment: Segment, start: int, limit: int | None) -> Iterator[tuple[int, bytes]]:
        name = layout.segment_name(segment.number)
        fd = self._disk.open(layout.segment_path(self._dir, segment.number))
        try:
            size = self._disk.size(layout.segment_path(self._dir, segment.number))
            if size < start:
                raise SessionReadOnly(f"{name} is {start - size} bytes shorter than what was acknowledged")
            if self._from is not None and segment.number == self._from.segment:
                end = f'{self._from.crc}"}}\n'.encode()
                if self._disk.pread(fd, len(end), start - len(end)) != end:
                    raise SessionReadOnly(f"{name} does not hold at byte {start} what tasks.json was made from")
            data = self._disk.pread(fd, size - start, start)
        finally:
            self._disk.close(fd)
        at = 0
        held: list[tuple[int, bytes]] = []  # records that count together, as long as there may be more
        before, whole = (self.seq, self._crc, self.position, at), self.seq
        while limit is None or self.seq + 1 < limit:
            end_at = data.find(b"\n", at)
            if end_at < 0:
                break
            line = data[at:end_at]
            match = _RECORD.match(line)
            crc = crc_of(line, self._crc)
            if crc is None or match is None or int(match[1]) != self.seq + 1 or int(match[2]) > self.seq + 1:
                break
            if not held and (count := together(line)) > 1:
                before, whole = (self.seq, self._crc, self.position, at), self.seq + count
            self.seq += 1
            self._crc = crc
            at = end_at + 1
            self.position = Position(file=name, offset=start + at, crc=f"{crc:08x}")
            record = self.seq, data[at - len(line) - 1 : at]
            if self.seq < whole:
                held.append(record)
                continue
            yield from held
            held = []
            yield record
        if held:  # the end of a batch is missing: it was never acknowledged, and none of it counts
            self.seq, self._crc, self.position, at = before
        if limit is not None and self.seq + 1 < limit:
            raise SessionReadOnly(f"{name}: event {self.seq + 1} at byte {start + at} is damaged")
        self.last, self.end = segment, start + at
        if limit is None and at < len(data):
            self._tear(segment.number, start + at, data[at:])

    def _tear(self, number: int, offset: int, data: bytes) -> None:
        if has_later_batch(data, self.seq):
            name = layout.segment_name(number)
            raise SessionReadOnly(f"{name}: event {self.seq + 1} at byte {offset} is damaged, and later ones follow it")
        self.torn.append(Torn(number, offset, data))
