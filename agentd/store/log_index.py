"""What is kept of logs between the requests that look at them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock

from agentd.store.chunks import STREAMS, ChunkIndex
from agentd.store.lines import LineIndex


class LogIndex:
    """What is known of one log: its chunks, its lines, and the lines of each stream."""

    def __init__(self, identity: Hashable) -> None:
        self.identity = identity
        self.chunks = ChunkIndex()
        self.lines: dict[str | None, LineIndex] = {stream: LineIndex() for stream in (None, *STREAMS)}


class LogIndexes:
    """The indexes of the logs looked at last, at most `limit`; owned by the caller, shared between threads."""

    def __init__(self, limit: int = 64) -> None:
        self._limit = limit
        self._lock = Lock()
        self._kept: OrderedDict[Hashable, LogIndex] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, log: Hashable, identity: Hashable) -> LogIndex:
        """The index of a log; an empty one if the log is another file than it was."""
        with self._lock:
            index = self._kept.pop(log, None)
            if index is None or index.identity != identity:
                index = LogIndex(identity)
            self._kept[log] = index
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)
            return index
