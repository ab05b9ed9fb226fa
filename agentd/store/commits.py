"""Group commit: what is given while one batch is written and synced is the next one."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from agentd.errors import SessionReadOnly, StorageFailed
from agentd.model.events import Event
from agentd.model.run import Run
from agentd.model.session import Session, SessionUsage
from agentd.model.task import Task
from agentd.store.folder import Appended, Folder, KeyRecord
from agentd.store.hands import Hands

#: Seconds that events nobody waits for may stay unwritten, so that they share a sync with what follows.
LAZY_S = 0.002
#: What is written at once, unless one request is more: a segment of the journal can always be read as a whole.
WRITE_BYTES = 8 << 20


class Staged(NamedTuple):
    """An event on the head, with the values it made."""

    seq: int
    event: Event
    task: Task | None
    session: Session | None
    key: KeyRecord | None
    run: Run | None = None
    usage: SessionUsage | None = None  #: what the session has used by now, if the event says so


class Waiter(NamedTuple):
    """Who waits until the event is durable."""

    seq: int
    future: asyncio.Future[None]


class GroupCommit:
    """The way of one session's events into its journal, in their order.

    `publish` is called with a batch that is durable; `fail` when one is not: all that was given until then falls away
    with it. Both on the event loop, before those who wait hear of it.
    """

    def __init__(
        self,
        folder: Folder,
        committers: Hands,
        *,
        publish: Callable[[list[Staged], Appended, float], None],
        fail: Callable[[StorageFailed | SessionReadOnly], None],
    ) -> None:
        self._folder = folder
        self._committers = committers
        self._publish = publish
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._staged: list[Staged] = []
        self._waiters: list[Waiter] = []
        self._batch: list[Staged] | None = None  #: what is being written
        self._in_flight: list[Waiter] = []  #: who waits for it
        self._began = 0.0  #: when, by perf_counter
        self._next: asyncio.Handle | None = None
        self._due = math.inf  #: when what is staged must go, by the loop's clock

    @property
    def pending(self) -> bool:
        """Whether something is not durable."""
        return bool(self._staged or self._batch)

    def give(self, staged: Sequence[Staged], *, lazily: bool) -> asyncio.Future[None]:
        """Take events; the future is done when they are durable, or raises why they are not.

        With `lazily` they may wait LAZY_S for company.
        """
        self._staged += staged
        return self._waiter(self._loop.time() + LAZY_S if lazily else 0.0)

    def hurry(self) -> None:
        """Somebody waits for what is staged after all."""
        if self._staged:
            self._ask(0.0)

    async def settled(self) -> None:
        """Wait until all that is staged now is durable; what is staged meanwhile is not waited for.

        Raises:
            StorageFailed, SessionReadOnly: it was not acknowledged.
        """
        if self._staged:
            await self._waiter(0.0)
        elif self._batch:
            self._in_flight.append(Waiter(self._batch[-1].seq, waiter := self._loop.create_future()))
            await waiter

    def abandon(self) -> None:
        """Write nothing more."""
        if self._next is not None:
            self._next.cancel()

    def _waiter(self, due: float) -> asyncio.Future[None]:
        self._waiters.append(Waiter(self._staged[-1].seq, waiter := self._loop.create_future()))
        self._ask(due)
        return waiter

    def _ask(self, due: float) -> None:
        if due < self._due:
            self._due = due
            if self._batch is None:  # or else the next batch starts when this one is durable
                self._set_next()

    def _set_next(self) -> None:
        if self._next is not None:
            self._next.cancel()
        # Not at once: what is staged in this turn of the loop shares the sync.
        late = self._due <= self._loop.time()
        self._next = self._loop.call_soon(self._write) if late else self._loop.call_at(self._due, self._write)

    def _write(self) -> None:
        self._next, self._due = None, math.inf
        self._batch, self._staged = self._staged, []
        self._in_flight, self._waiters = self._waiters, []
        self._began = time.perf_counter()
        events = [entry.event for entry in self._batch]
        self._committers.run(self._folder.append, (events, self._batch[0].seq, WRITE_BYTES), self._written)

    def _written(self, appended: Appended | None, error: BaseException | None) -> None:
        batch, self._batch = self._batch, None
        waiters, self._in_flight = self._in_flight, []
        assert batch is not None
        if appended is None:
            self._lost(error, waiters)
            return
        if rest := batch[len(appended.lines) :]:  # more than one write takes: it is next, before what came meanwhile
            del batch[len(appended.lines) :]
            self._staged, self._due = rest + self._staged, 0.0
            self._waiters = [waiter for waiter in waiters if waiter.seq > batch[-1].seq] + self._waiters
            waiters = [waiter for waiter in waiters if waiter.seq <= batch[-1].seq]
        self._publish(batch, appended, time.perf_counter() - self._began)
        for _, waiter in reversed(waiters):  # a start, staged after its submit, need not wait for the answer to be sent
            if not waiter.done():
                waiter.set_result(None)
        if self._staged:
            self._set_next()

    def _lost(self, error: BaseException | None, waiters: list[Waiter]) -> None:
        if not isinstance(error, (StorageFailed, SessionReadOnly)):
            error = StorageFailed(f"the journal could not be written: {error!r}")
        waiters += self._waiters
        self._waiters, self._staged, self._due = [], [], math.inf
        for _, waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)
                waiter.exception()  # a record nobody waits for may fail unseen: the next one tells
        self._fail(error)
