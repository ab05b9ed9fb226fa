"""The finished tasks of a session, by the names of their records in `history/`. Blocking, safe between threads.

A name tells the order, the state and the id, so a page is found without opening anything, and what is on it is handed
on as the bytes of the files: a page of 1,000 from 100,000 records reads 1,000 small files and decodes none.
"""

from __future__ import annotations

import heapq
import os
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from threading import Lock

import msgspec

from agentd.errors import Malformed
from agentd.model.reading import read
from agentd.model.requests import TaskQuery
from agentd.model.task import TERMINAL, State, Value
from agentd.store import inside, layout
from agentd.store.record_cache import RecordCache

#: Records that one page may open when filters pass few of them; the page is then short and has a cursor.
MAX_EXAMINED = 20_000

_STATES = tuple(sorted(TERMINAL))
_CODES = {state: code for code, state in enumerate(_STATES)}
_ID_BYTES = 16
_RUN = 16_384  #: names sorted at once
_SLICE = 1024  #: names looked at under the lock
_CHANGES = 65_536  #: finished while the directory was being read; what is older is in it
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READ_BYTES = 8 << 10  # a larger buffer costs more than the records that need a second read


class History:
    """What is known of the records of one session: 25 bytes each, read by one scan when first needed."""

    def __init__(self, session_dir: Path, cache: RecordCache | None = None) -> None:
        self._dir = session_dir / layout.HISTORY
        self._cache = cache or RecordCache(0)
        self._session = object()  # a name that was deleted may come back: its records are others
        self._lock = Lock()
        self._scanned = False
        self._changes: deque[tuple[int, State | None, str]] = deque(maxlen=_CHANGES)
        self._seqs = array("Q")
        self._states = bytearray()
        self._ids = bytearray()

    def __len__(self) -> int:
        with self._lock:
            self._scan()
            return len(self._seqs)

    def add(self, seq: int, state: State, task_id: str) -> None:
        """A task finished; its record is there or will be soon. Does not block: the event loop may call it."""
        self._changes.append((seq, state, task_id))
        self._settle()

    def remove(self, seq: int) -> None:
        """The record is gone; unknown: no effect. Does not block."""
        self._cache.drop((self._session, seq))
        self._changes.append((seq, None, ""))
        self._settle()

    def page(self, query: TaskQuery) -> tuple[list[bytes], str | None]:
        """At most `query.limit` records as the JSON they are, by the order in which they finished, and the next cursor.

        Newest first, or with `sort=created_at` oldest first. A page may be short of its limit and have a cursor, when
        the filters passed few of the records it could look at. Files that are gone or not JSON objects are left out.

        Raises:
            Malformed: the cursor is not one of ours.
        """
        newest_first = query.sort.startswith("-")
        passes = _filter(query)
        rows: list[bytes] = []
        examined = 0
        following: str | None = query.cursor
        names = self._names(query, newest_first)
        try:
            with inside.directory(self._dir) as history:
                while (room := min(query.limit - len(rows), MAX_EXAMINED - examined)) > 0:
                    some = list(islice(names, room))
                    if not some:
                        return rows, None
                    examined += len(some)
                    following = str(some[-1][0])
                    records = self._records(history, some)
                    rows += [each for each in records if each is not None and (passes is None or passes(each))]
                return rows, following if next(names, None) else None
        except (FileNotFoundError, NotADirectoryError):
            return rows, None  # a session that has none

    def get(self, task_id: str) -> bytes | None:
        """The record of a finished task; None when it is not there."""
        if len(task_id) > _ID_BYTES or not task_id.isascii():
            return None
        key = _padded(task_id)
        with self._lock:
            self._scan()
            at = self._ids.find(key)
            while at > 0 and at % _ID_BYTES:
                at = self._ids.find(key, at + 1)
            if at < 0:
                return None
            seq, state = self._seqs[at // _ID_BYTES], _STATES[self._states[at // _ID_BYTES]]
        try:
            with inside.directory(self._dir) as history:
                return _read(history, layout.record_name(seq, state, task_id))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _records(self, history: int, names: Sequence[tuple[int, State, str]]) -> list[bytes | None]:
        keys = [(self._session, seq) for seq, _, _ in names]
        records = self._cache.get(keys)
        fresh = []
        for at, name in enumerate(names):
            if records[at] is None and (record := _read(history, layout.record_name(*name))) is not None:
                records[at] = record
                fresh.append((keys[at], record))
        self._cache.put(fresh)
        return records

    def _names(self, query: TaskQuery, newest_first: bool) -> Iterator[tuple[int, State, str]]:
        """The records after the cursor whose names the query allows, in its order."""
        wanted = bytes(_CODES[s] for s in query.state if s in _CODES)
        if query.state and not wanted:
            return
        prefix = query.prefix or ""
        seq = _cursor(query.cursor)
        while True:
            with self._lock:  # by seq and in slices, for records come and go meanwhile
                self._scan()
                if newest_first:
                    end = len(self._seqs) if seq is None else bisect_left(self._seqs, seq)
                    steps = range(end - 1, max(-1, end - 1 - _SLICE), -1)
                else:
                    start = 0 if seq is None else bisect_right(self._seqs, seq)
                    steps = range(start, min(len(self._seqs), start + _SLICE))
                rows = [
                    (self._seqs[at], _STATES[self._states[at]], self._id(at))
                    for at in steps
                    if not wanted or self._states[at] in wanted
                ]
                if not steps:
                    return
                seq = self._seqs[steps[-1]]
            for row in rows:
                if row[2].startswith(prefix):
                    yield row

    def _id(self, at: int) -> str:
        return self._ids[at * _ID_BYTES : (at + 1) * _ID_BYTES].rstrip(b"\0").decode()

    def _settle(self) -> None:
        """Take in the changes, unless another thread is reading the directory: it does that when it is done."""
        if self._lock.acquire(blocking=False):
            try:
                if self._scanned:
                    self._apply()
            finally:
                self._lock.release()

    def _apply(self) -> None:
        while self._changes:
            seq, state, task_id = self._changes.popleft()
            if state is None:
                self._drop(seq)
            else:
                self._insert(seq, state, task_id)

    def _drop(self, seq: int) -> None:
        at = bisect_left(self._seqs, seq)
        if at < len(self._seqs) and self._seqs[at] == seq:
            del self._seqs[at], self._states[at]
            del self._ids[at * _ID_BYTES : (at + 1) * _ID_BYTES]

    def _insert(self, seq: int, state: State, task_id: str) -> None:
        at = bisect_left(self._seqs, seq)
        if len(task_id) > _ID_BYTES or (at < len(self._seqs) and self._seqs[at] == seq):
            return
        self._seqs.insert(at, seq)
        self._states.insert(at, _CODES[state])
        self._ids[at * _ID_BYTES : at * _ID_BYTES] = _padded(task_id)

    def _scan(self) -> None:
        if not self._scanned:
            self._read_names()
            self._scanned = True
        self._apply()

    def _read_names(self) -> None:
        runs: list[list[tuple[int, State, str]]] = [[]]
        try:
            with os.scandir(self._dir) as names:
                for entry in names:
                    if found := layout.parsed_record_name(entry.name):
                        runs[-1].append(found)
                        if len(runs[-1]) == _RUN:
                            runs.append([])
        except (FileNotFoundError, NotADirectoryError):
            pass  # a session that has none
        for run in runs:  # not one sort of all: that would keep every other thread from running
            run.sort()
        for seq, state, task_id in heapq.merge(*runs):
            if len(task_id) <= _ID_BYTES and (not self._seqs or seq > self._seqs[-1]):
                self._seqs.append(seq)
                self._states.append(_CODES[state])
                self._ids += _padded(task_id)


def _padded(task_id: str) -> bytes:
    return task_id.encode().ljust(_ID_BYTES, b"\0")


def _cursor(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise Malformed.field("cursor", "is not one this list gave; start without it")
    return int(text)


def _read(history: int, name: str) -> bytes | None:
    """The record without its line feed; None when it is gone or not an object."""
    try:
        fd = os.open(name, _OPEN, dir_fd=history)
    except OSError:
        return None
    try:
        record = os.read(fd, _READ_BYTES)
        if len(record) == _READ_BYTES:
            pieces = [record]
            while piece := os.read(fd, 1 << 20):
                pieces.append(piece)
            record = b"".join(pieces)
    except OSError:
        return None
    finally:
        os.close(fd)
    record = record[:-1] if record.endswith(b"}\n") else record.strip()
    # One bad file must not spoil the page it is joined into; `check` is what reads them closely.
    return record if record.startswith(b"{") and record.endswith(b"}") else None


class _Cause(Value, frozen=True, kw_only=True):
    code: str = ""


class _Trigger(Value, frozen=True, kw_only=True):
    type: str = ""


class _Filtered(Value, frozen=True, kw_only=True):
    """What filters look at."""

    kind: str = ""
    cause: _Cause | None = None
    trigger: _Trigger = _Trigger()
    labels: dict[str, str] = {}
    queue: str = ""
    name: str | None = None
    spec: dict[str, object] = {}
    created_at: str = ""


def _filter(query: TaskQuery) -> Callable[[bytes], bool] | None:
    """Whether a record passes what its name cannot tell; None when nothing of that is asked."""
    asked = (query.kind, query.cause, query.trigger, query.label, query.queue, query.q, query.since, query.until)
    if not any(asked):
        return None
    labels = [label.partition("=") for label in query.label]
    text = query.q.casefold() if query.q else ""

    def passes(record: bytes) -> bool:
        try:
            task = read(record, _Filtered)
        except msgspec.MsgspecError:
            return False
        return (
            (not query.kind or task.kind in query.kind)
            and (not query.cause or (task.cause is not None and task.cause.code in query.cause))
            and (not query.trigger or task.trigger.type in query.trigger)
            and (not query.queue or task.queue == query.queue)
            and (not query.since or task.created_at >= query.since)
            and (not query.until or task.created_at < query.until)
            and all(k in task.labels and (not eq or task.labels[k] == v) for k, eq, v in labels)
            and (not text or text in (task.name or "").casefold() or text in _command(task.spec).casefold())
        )

    return passes


def _command(spec: dict[str, object]) -> str:
    argv = spec.get("argv")
    return " ".join(map(str, argv)) if isinstance(argv, list) else str(spec.get("command", ""))
