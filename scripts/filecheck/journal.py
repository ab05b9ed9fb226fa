"""The journal of a session, read as docs/storage.md tells it, and nothing believed that does not fit."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from typing import Any, NamedTuple

#: What a record begins with, in this order and without spaces.
_BEGINNING = re.compile(rb'\{"seq":(\d+),"b":(\d+),"session_id":"([^"]+)","type":"([^"]+)",')


class Place(NamedTuple):
    """Where a record ends."""

    file: str
    offset: int
    crc: str


class Journal(NamedTuple):
    """The records that count, oldest first, where each ends (by its `seq`), and what does not fit."""

    records: list[dict[str, Any]]
    ends: dict[int, Place]
    wrong: list[str]

    @property
    def whole(self) -> bool:
        """Whether it still begins with the first event: nothing of it was pruned."""
        return bool(self.records) and self.records[0]["seq"] == 1

    @property
    def seq(self) -> int:
        """The last event."""
        return int(self.records[-1]["seq"]) if self.records else 0


class _Segment(NamedTuple):
    name: str
    lines: list[bytes]  #: without their line ends
    rest: bytes  #: behind the last line end
    head: dict[str, Any] | None


def read(session: Path) -> Journal:
    """The whole journal of the session in this directory; raises OSError."""
    segments = [_segment(path) for path in sorted((session / "history").glob("events-*.jsonl"))]
    found = Journal([], {}, [])
    if not segments:
        found.wrong.append("there is no journal")
    crc, seq, batch = -1, 0, 0
    for number, (name, lines, rest, head) in enumerate(segments):
        following = next((later.head["first_seq"] for later in segments[number + 1 :] if later.head), None)
        if head is None:
            # Once what was before it is pruned, nobody knows any more that the next one follows that.
            pruned = seq == 0 and following is not None and not _holds_before(lines, following)
            if following is None or (following != seq + 1 and not pruned):
                found.wrong.append(f"{name} has no sound header")
            continue
        if seq == 0 and crc < 0:
            seq, crc = head["first_seq"] - 1, int(head["prev_crc"], 16)
        if (head["first_seq"], head["prev_crc"]) != (seq + 1, f"{crc:08x}") or head["session_id"] != session.name:
            found.wrong.append(f"{name} does not continue event {seq}")
            return found
        offset = len(lines[0]) + 1
        for line in lines[1:]:
            if seq + 1 == following:
                break  # superseded by a later segment
            offset += len(line) + 1
            sound = _sound(line, crc)
            begins = _BEGINNING.match(line)
            if sound is None or begins is None or int(begins[1]) != seq + 1:
                found.wrong.append(f"{name}: what follows event {seq} does not fit its CRC or its number")
                return found
            crc, seq = sound, seq + 1
            record = json.loads(line)
            if begins[3].decode() != session.name:
                found.wrong.append(f"event {seq} is of session {begins[3].decode()}")
            if (begun := int(begins[2])) not in (seq, batch):
                found.wrong.append(f"event {seq} says that its batch began with {begun}, not {batch} or itself")
            batch = begun
            found.records.append(record)
            found.ends[seq] = Place(name, offset, f"{crc:08x}")
        if rest and following is None:
            found.wrong.append(f"{name} ends in half a record")
    return found


def _holds_before(lines: list[bytes], seq: int) -> bool:
    return any(int(match[1]) < seq for line in lines if (match := _BEGINNING.match(line)))


def _segment(path: Path) -> _Segment:
    *lines, rest = path.read_bytes().split(b"\n")
    head = None
    try:
        head = json.loads(lines[0])
        if _sound(lines[0], int(head["prev_crc"], 16)) is None:
            head = None
    except (IndexError, KeyError, ValueError, TypeError):
        pass  # the start of a segment that failed
    return _Segment(path.name, lines, rest, head)


def _sound(line: bytes, crc: int) -> int | None:
    """The CRC after the line, if that is what the line says."""
    body, _, end = line.rpartition(b',"crc":"')
    crc = zlib.crc32(body, crc)
    return crc if end == b'%08x"}' % crc else None
