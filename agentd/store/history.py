"""The finished tasks of a session, by the names of their records in `history/`. Blocking, safe between threads.

A name tells the order, the state and the id, so a page is found without opening anything, and what is on it is handed
on as the bytes of the files: a page of 1,000 from 100,000 records reads 1,000 small files, and encodes none.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from threading import Lock

import msgspec

from agentd.errors import Malformed
from agentd.model.ids import TASK_ID_LENGTH, is_task_id
from agentd.model.reading import read
from agentd.model.requests import TaskQuery
from agentd.model.task import TERMINAL, State, Value
from agentd.store import inside, layout
from agentd.store.record_cache import RecordCache

#: Records that one page may open when filters pass few of them; the page is then short and has a cursor.
MAX_EXAMINED = 20_000

#: What is read before somebody asks for it: no more than the cache holds beside the pages in use.
AHEAD_BYTES = 2 << 20

_CODES = {state: chr(code) for code, state in enumerate(sorted(TERMINAL))}
_STATES = {code: state for state, code in _CODES.items()}
_ROW = 1 + TASK_ID_LENGTH  #: what is kept with a seq: a character for the state, and the id
_RUN = 16_384  #: seqs sorted at once
_AHEAD = 100  #: records read ahead at once
_SLICE = 1024  #: names looked at under the lock
_MAX_SEQ = (1 << 63) - 1  # a name made by hand may have more digits than an array takes
_CHANGES = 65_536  #: finished while the directory was being read; what is older is in it
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READ_BYTES = 8 << 10  # a larger buffer costs more than the records that need a second read


class History:
    """What is known of the records of one session: 23 bytes each, read by one scan when first needed."""

    def __init__(self, session_dir: Path, cache: RecordCache | None = None) -> None:
        self._dir = session_dir / layout.HISTORY
        self._cache = cache or RecordCache(0)
        self._session = object()  # a name that was deleted may come back: its records are others
        self._lock = Lock()
        self._reading = Lock()  # what one thread reads, another waits for and finds in the cache
        self._scanned = False
        self._changes: deque[tuple[int, State | None, str]] = deque(maxlen=_CHANGES)
        self._seqs = array("Q")
        self._rows = bytearray()

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
        found = self._found(query, newest_first)
        try:
            with inside.directory(self._dir) as history:
                while (room := min(query.limit - len(rows), MAX_EXAMINED - examined)) > 0:
                    some = list(islice(found, room))
                    if not some:
                        return rows, None
                    examined += len(some)
                    following = str(some[-1][0])
                    records = self._records(history, some)
                    rows += [each for each in records if each is not None and (passes is None or passes(each))]
                return rows, following if next(found, None) else None
        except (FileNotFoundError, NotADirectoryError):
            return rows, None  # a session that has none

    def read_ahead(self, query: TaskQuery) -> None:
        """Bring what a page will show into memory, where names alone tell what that is; at most AHEAD_BYTES of it."""
        if _filter(query) is not None:
            return
        found = islice(self._found(query, query.sort.startswith("-")), query.limit)
        size = 0
        with suppress(OSError), inside.directory(self._dir) as history:
            while size < AHEAD_BYTES and (some := list(islice(found, _AHEAD))):
                size += sum(len(record) for record in self._records(history, some) if record is not None)

    def get(self, task_id: str) -> bytes | None:
        """The record of a finished task; None when it is not there."""
        if not is_task_id(task_id):
            return None
        with self._lock:
            self._scan()
            at = self._rows.find(task_id.encode()) // _ROW  # no code of a state is a character of an id
            if at < 0:
                return None
            name = _name(self._seqs[at], self._rows[at * _ROW : (at + 1) * _ROW].decode())
        try:
            with inside.directory(self._dir) as history:
                return _read(history, [name])[0]
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _records(self, history: int, rows: Sequence[tuple[int, str]]) -> list[bytes | None]:
        keys = [(self._session, seq) for seq, _ in rows]
        records = self._cache.get(keys)
        if None not in records:
            return records
        with self._reading:
            records = self._cache.get(keys)
            missing = [at for at, record in enumerate(records) if record is None]
            for at, record in zip(missing, _read(history, [_name(*rows[at]) for at in missing]), strict=True):
                records[at] = record
            self._cache.put([(keys[at], record) for at in missing if (record := records[at]) is not None])
        return records

    def _found(self, query: TaskQuery, newest_first: bool) -> Iterator[tuple[int, str]]:
        """Seq and row of the records after the cursor whose names the query allows, in its order."""
        wanted = "".join([_CODES[state] for state in query.state if state in _CODES])
        if query.state and not wanted:
            return
        prefix = query.prefix or ""
        seq = _cursor(query.cursor)
        while True:
            with self._lock:  # by seq and in slices, for records come and go meanwhile
                self._scan()
                if newest_first:
                    end = len(self._seqs) if seq is None else bisect_left(self._seqs, seq)
                    start = max(0, end - _SLICE)
                else:
                    start = 0 if seq is None else bisect_right(self._seqs, seq)
                    end = min(len(self._seqs), start + _SLICE)
                seqs, rows = self._seqs[start:end], self._rows[start * _ROW : end * _ROW].decode()
            if not seqs:
                return
            order = range(len(seqs) - 1, -1, -1) if newest_first else range(len(seqs))
            seq, states = seqs[order[-1]], rows[::_ROW]
            for at in [at for at in order if states[at] in wanted] if wanted else order:
                if rows.startswith(prefix, at * _ROW + 1):
                    yield seqs[at], rows[at * _ROW : (at + 1) * _ROW]

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
            del self._seqs[at], self._rows[at * _ROW : (at + 1) * _ROW]

    def _insert(self, seq: int, state: State, task_id: str) -> None:
        at = bisect_left(self._seqs, seq)
        if at == len(self._seqs) or self._seqs[at] != seq:
            self._seqs.insert(at, seq)
            self._rows[at * _ROW : at * _ROW] = _row(state, task_id)

    def _scan(self) -> None:
        if not self._scanned:
            self._read_names()
            self._scanned = True
        self._apply()

    def _read_names(self) -> None:
        try:
            names = os.listdir(self._dir)
        except (FileNotFoundError, NotADirectoryError):
            return  # a session that has none
        runs: dict[int, dict[int, bytes]] = defaultdict(dict)
        for name in names:
            if found := layout.parsed_record_name(name):
                seq, state, task_id = found
                if seq <= _MAX_SEQ and len(task_id) == TASK_ID_LENGTH:
                    runs[seq // _RUN][seq] = _row(state, task_id)
        for _, run in sorted(runs.items()):  # not one sort of all: that would keep every other thread from running
            seqs = sorted(run)
            self._seqs.extend(seqs)
            self._rows += b"".join([run[seq] for seq in seqs])


def _row(state: State, task_id: str) -> bytes:
    return (_CODES[state] + task_id).encode()


def _name(seq: int, row: str) -> str:
    return layout.record_name(seq, _STATES[row[0]], row[1:])


def _cursor(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise Malformed.field("cursor", "is not one this list gave; start without it")
    return int(text)


def _read(history: int, names: Sequence[str]) -> list[bytes | None]:
    """The records without their line feeds; None for one that is gone or not an object."""
    records: list[bytes | None] = []
    for name in names:  # one function for all: calls of it would cost as much as the reading
        try:
            fd = os.open(name, _OPEN, dir_fd=history)
            try:
                record = os.read(fd, _READ_BYTES)
                if len(record) == _READ_BYTES:
                    pieces = [record]
                    while piece := os.read(fd, 1 << 20):
                        pieces.append(piece)
                    record = b"".join(pieces)
            finally:
                os.close(fd)
        except OSError:
            record = b""
        try:
            read(record, dict)  # one bad file must not spoil the page it is joined into
        except msgspec.MsgspecError:
            records.append(None)
        else:
            records.append(record.strip())
    return records


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
    parent_id: str | None = None


def _filter(query: TaskQuery) -> Callable[[bytes], bool] | None:
    """Whether a record passes what its name cannot tell; None when nothing of that is asked."""
    asked = (query.kind, query.cause, query.trigger, query.label, query.queue, query.q, query.since, query.until)
    if not any((*asked, query.parent, query.awaiting)):
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
            and (not query.parent or task.parent_id == query.parent)
            and not query.awaiting  # what has ended asks nothing
            and all(k in task.labels and (not eq or task.labels[k] == v) for k, eq, v in labels)
            and (not text or text in (task.name or "").casefold() or text in _command(task.spec).casefold())
        )

    return passes


def _command(spec: dict[str, object]) -> str:
    argv = spec.get("argv")
    return " ".join(map(str, argv)) if isinstance(argv, list) else str(spec.get("command", ""))
