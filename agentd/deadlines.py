"""What waits for the clock: start times of tasks, and timeouts of sessions."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import Callable, Coroutine
from typing import Any

from agentd.clock import Clock, epoch
from agentd.errors import SessionReadOnly, StorageFailed
from agentd.model.session import Session
from agentd.model.task import Cause, CauseCode, Task
from agentd.service import Service
from agentd.store.ledger import Ledger

#: Seconds between attempts to record something the disk refused.
STORAGE_RETRY_S = 0.5
#: Seconds that a timer is set ahead at most: the clock may be set meanwhile.
FARTHEST_S = 30.0
#: Looks that were called off, beyond as many as are to come, that the heap may hold.
STALE_LOOKS = 64


class StartTimes:
    """When tasks are to be looked at again: one heap and one timer for all. `look` gets the session and the task.

    `now` is the clock that all times are of: the wall's for start times, a monotonic one for pauses.
    """

    def __init__(self, now: Callable[[], float], look: Callable[[str, str], None]) -> None:
        self._now = now
        self._look = look
        self._heap: list[tuple[float, str, str]] = []  #: due, session, task; a look may have been called off
        self._due: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._heap)

    def look_at(self, task: Task, due: float) -> None:
        """Look at the task at `due`, unless that happens earlier anyway."""
        known = self._due.get(task.task_id)
        if known is not None and known <= due:
            return
        self._due[task.task_id] = due
        heapq.heappush(self._heap, (due, task.session_id, task.task_id))
        if self._heap[0][2] == task.task_id:
            self._arm()

    def forget(self, task_id: str) -> None:
        """The task has ended."""
        if self._due.pop(task_id, None) is not None and len(self._heap) > 2 * len(self._due) + STALE_LOOKS:
            self._heap = [each for each in self._heap if self._due.get(each[2]) == each[0]]
            heapq.heapify(self._heap)

    def close(self) -> None:
        """Look at nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self.close()
        if self._heap:
            delay = min(FARTHEST_S, max(0.0, self._heap[0][0] - self._now()))
            self._timer = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        now = self._now()
        ripe = []
        while self._heap and self._heap[0][0] <= now:
            due, session_id, task_id = heapq.heappop(self._heap)
            if self._due.get(task_id) == due:
                del self._due[task_id]
                ripe.append((session_id, task_id))
        self._arm()
        for session_id, task_id in ripe:
            self._look(session_id, task_id)


class Pauses:
    """The pauses before retries: by the monotonic clock, from when this boot first hears of each.

    The clock on the wall tells how much of a pause is left then; what it is set to afterwards changes nothing.
    """

    def __init__(self, clock: Clock, look: Callable[[str, str], None]) -> None:
        self._clock = clock
        self._looks = StartTimes(clock.monotonic, look)
        self._ends: dict[str, tuple[str, float]] = {}  #: as the journal says it, and by the monotonic clock

    def put_off(self, task: Task) -> bool:
        """Whether the next attempt of a queued task is still to come; it is looked at again then."""
        if task.next_attempt_at is None:
            return False
        known = self._ends.get(task.task_id)
        if known is None or known[0] != task.next_attempt_at:
            left_s = epoch(task.next_attempt_at) - self._clock.time()
            if task.retry is not None:
                left_s = min(left_s, task.retry.max_backoff_s)
            known = self._ends[task.task_id] = (task.next_attempt_at, self._clock.monotonic() + left_s)
        if known[1] <= self._clock.monotonic():
            return False
        self._looks.look_at(task, known[1])
        return True

    def forget(self, task_id: str) -> None:
        """It has started, or ended."""
        if self._ends.pop(task_id, None) is not None:
            self._looks.forget(task_id)

    def close(self) -> None:
        """Look at nothing any more."""
        self._looks.close()


class Deadlines:
    """Timeouts of sessions, counted from the creation of the oldest unfinished task to the end of the last.

    One timer for each session that has a timeout and something unfinished. `own` keeps a coroutine running.
    """

    def __init__(self, service: Service, own: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._service = service
        self._own = own
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def arm(self, session: Session) -> None:
        """Watch the session, if it has a timeout; again: no effect."""
        session_id, timeout_s = session.session_id, session.policy.timeout_s
        if timeout_s is None or session_id in self._timers:
            return
        ledger, now = self._service.store.in_memory(session_id), self._service.clock.time()
        began = _began(ledger) if ledger is not None else None
        self._arm_in(session_id, max(0.0, (began or now) + timeout_s - now))

    def _arm_in(self, session_id: str, delay: float) -> None:
        loop = asyncio.get_running_loop()
        self._timers[session_id] = loop.call_later(min(FARTHEST_S, delay), lambda: self._own(self._due(session_id)))

    def disarm(self, session_id: str) -> None:
        """Watch it no longer."""
        if (timer := self._timers.pop(session_id, None)) is not None:
            timer.cancel()

    def close(self) -> None:
        """Watch nothing."""
        for session_id in list(self._timers):
            self.disarm(session_id)

    async def _due(self, session_id: str) -> None:
        self._timers.pop(session_id, None)
        ledger = self._service.store.in_memory(session_id)
        if ledger is None:
            return
        with contextlib.suppress(StorageFailed, SessionReadOnly):
            await ledger.settled()  # a task that was just submitted counts
        timeout_s, began = ledger.session.policy.timeout_s, _began(ledger)
        if timeout_s is None or began is None or session_id in self._timers:
            return
        if began + timeout_s > self._service.clock.time():
            self.arm(ledger.session)
            return
        cause = Cause(code=CauseCode.SESSION_TIMEOUT, message=f"the session's timeout of {timeout_s:g} s was reached")
        try:
            await self._service.stop_all(ledger, cause)
        except (StorageFailed, SessionReadOnly):
            self.disarm(session_id)
            self._arm_in(session_id, STORAGE_RETRY_S)


def _began(ledger: Ledger) -> float | None:
    return min((epoch(task.created_at) for task in ledger.tasks.values() if not task.terminal), default=None)
