"""The doorbell: hands each durable event's line to whoever is listening now.

The journal is the truth. A listener that falls behind is dropped, not buffered; it reads the journal and comes back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType

from agentd.errors import Unavailable

#: Bytes of lines that the ring of latest events, or one listener's queue, holds at most.
MOST_BYTES = 16 << 20


class SlowReader(Unavailable):
    """The listener lagged more than its bound; it must read the journal and subscribe again."""

    code = "slow_reader"


class BusClosed(Unavailable):
    """The daemon is stopping; no more events come."""

    code = "bus_closed"


class Subscription:
    """One listener's bounded queue of (position, line): `limit` events, MOST_BYTES. Use as an async context manager."""

    def __init__(self, bus: Bus, session_id: str | None, limit: int) -> None:
        self._bus = bus
        self._session_id = session_id
        self._limit = limit
        self._rows: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._ring = asyncio.Event()
        self._lost = False

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bus.unsubscribe(self)

    @property
    def session_id(self) -> str | None:
        """Whose events; None is everybody's."""
        return self._session_id

    def put(self, position: int, line: bytes) -> None:
        """Queue a line; over the bound, drop everything and remember that."""
        if self._lost:
            return
        if len(self._rows) >= self._limit or (self._rows and self._bytes + len(line) > MOST_BYTES):
            self._rows.clear()
            self._lost = True
            self._bus.dropped += 1
        else:
            self._rows.append((position, line))
            self._bytes += len(line)
        self._ring.set()

    def wake(self) -> None:
        """Make a pending `get` look again."""
        self._ring.set()

    async def get(self) -> tuple[int, bytes]:
        """The next event.

        Raises:
            SlowReader: events were dropped.
            BusClosed: the daemon is stopping.
        """
        while True:
            if self._lost:
                raise SlowReader("the reader is too slow; resume from the last event it has")
            if self._rows:
                row = self._rows.popleft()
                self._bytes -= len(row[1])
                return row
            if self._bus.closed:
                raise BusClosed("the daemon is stopping")
            self._ring.clear()
            await self._ring.wait()


class Bus:
    """All live subscriptions, and a ring of the latest events over all sessions, numbered per boot.

    The ring holds `ring` events and MOST_BYTES at most.
    """

    def __init__(self, ring: int) -> None:
        self.position = 0
        self.closed = False
        self.dropped = 0  #: readers that were too slow
        self._limit = ring
        self._ring: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._everyone: set[Subscription] = set()
        self._by_session: dict[str, set[Subscription]] = {}

    def subscribe(self, session_id: str | None, limit: int) -> Subscription:
        """Listen to one session (positions are its `seq`) or to all (positions count from 1 at each boot)."""
        subscription = Subscription(self, session_id, limit)
        if session_id is None:
            self._everyone.add(subscription)
        else:
            self._by_session.setdefault(session_id, set()).add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop listening; again is no error."""
        self._everyone.discard(subscription)
        session_id = subscription.session_id
        if session_id is not None and (listeners := self._by_session.get(session_id)):
            listeners.discard(subscription)
            if not listeners:
                del self._by_session[session_id]

    def publish(self, session_id: str | None, seq: int, line: bytes) -> None:
        """Tell everybody; `session_id` is None for an event of the daemon itself."""
        self.position += 1
        self._ring.append((self.position, line))
        self._bytes += len(line)
        while len(self._ring) > self._limit or self._bytes > MOST_BYTES:
            self._bytes -= len(self._ring.popleft()[1])
        for subscription in self._everyone:
            subscription.put(self.position, line)
        if session_id is not None:
            for subscription in self._by_session.get(session_id, ()):
                subscription.put(seq, line)

    def replay(self, after: int) -> list[tuple[int, bytes]] | None:
        """The events behind a position of this boot; None when the ring no longer has them all."""
        if after > self.position or self.position - after > len(self._ring):
            return None
        return [row for row in self._ring if row[0] > after]

    @property
    def subscribers(self) -> int:
        """How many listen."""
        return len(self._everyone) + sum(len(listeners) for listeners in self._by_session.values())

    def close(self) -> None:
        """End every subscription once it has been read empty."""
        self.closed = True
        for subscription in (*self._everyone, *(s for each in self._by_session.values() for s in each)):
            subscription.wake()
