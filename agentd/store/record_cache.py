"""Records of finished tasks that were read lately. Safe between threads."""

from __future__ import annotations

from collections import OrderedDict
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

    def get(self, key: Key) -> bytes | None:
        """The record, if it is here. A record never changes."""
        with self._lock:
            record = self._records.get(key)
            if record is not None:
                self._records.move_to_end(key)
            return record

    def put(self, key: Key, record: bytes) -> None:
        """Keep it, at the cost of the ones not read for longest."""
        with self._lock:
            if key in self._records or len(record) > self._limit:
                return
            self._records[key] = record
            self._size += len(record)
            while self._size > self._limit:
                self._size -= len(self._records.popitem(last=False)[1])

    def drop(self, key: Key) -> None:
        """The record is gone."""
        with self._lock:
            self._size -= len(self._records.pop(key, b""))
