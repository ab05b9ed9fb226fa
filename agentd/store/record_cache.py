"""Records of finished tasks that were read lately. Safe between threads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from threading import Lock

#: Whatever stands for a session as long as it is there, and the number of the record in it.
Key = tuple[object, int]


class RecordCache:
    """Records read lately, of any session, up to `limit` bytes: the page that viewers look at stays in memory."""

    def __init__(self, limit: int = 8 << 20) -> None:
        self._limit = limit
        self._size = 0
        self._lock = Lock()
        self._records: OrderedDict[Key, bytes] = OrderedDict()

    def get(self, keys: Sequence[Key]) -> list[bytes | None]:
        """The records, those that are here. A record never changes."""
        with self._lock:
            found = [self._records.get(key) for key in keys]
            for key, record in zip(keys, found, strict=True):
                if record is not None:
                    self._records.move_to_end(key)
            return found

    def put(self, records: Iterable[tuple[Key, bytes]]) -> None:
        """Keep them, at the cost of the ones not read for longest."""
        with self._lock:
            for key, record in records:
                if key not in self._records and len(record) <= self._limit:
                    self._records[key] = record
                    self._size += len(record)
            while self._size > self._limit:
                self._size -= len(self._records.popitem(last=False)[1])

    def drop(self, key: Key) -> None:
        """The record is gone."""
        with self._lock:
            self._size -= len(self._records.pop(key, b""))
