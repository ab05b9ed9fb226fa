"""Budgets of sessions: what reaches one is ended, and nothing more of its session starts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from agentd.deadlines import FARTHEST_S, STORAGE_RETRY_S
from agentd.errors import SessionReadOnly, StorageFailed
from agentd.lanes import Lanes
from agentd.model.budget import reached, spent
from agentd.model.session import Session
from agentd.model.task import Cause, CauseCode, State, Task
from agentd.service import Service
from agentd.store.ledger import Ledger


class Budgets:
    """Looks whenever something of a session with a budget changes, and when its time is up. `own` keeps a coroutine
    running.
    """

    def __init__(self, service: Service, lanes: Lanes, own: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._service = service
        self._lanes = lanes
        self._own = own
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._stopping: set[str] = set()

    def look(self, session: Session) -> None:
        """Hold or release the session, end what runs in one that has used up its budget, and look again in time."""
        session_id, budget = session.session_id, session.policy.budget
        self._disarm(session_id)
        ledger = self._service.store.in_memory(session_id)
        if budget is None or ledger is None:
            self._lanes.hold(session_id, None)
            return
        running = self._running(ledger)
        used = spent(ledger.head_session.usage, running, self._service.clock.time())
        why = reached(budget, used)
        self._lanes.hold(session_id, why)
        if why is not None:
            if session_id not in self._stopping and any(task.stop_cause is None for task in running):
                self._stopping.add(session_id)
                self._own(self._stop(ledger, why))
        elif budget.max_wall_s is not None and running:
            self._arm(session_id, (budget.max_wall_s - used.wall_s) / len(running))

    def forget(self, session_id: str) -> None:
        """The session is gone."""
        self._disarm(session_id)
        self._lanes.hold(session_id, None)

    def close(self) -> None:
        """Look at nothing any more."""
        for session_id in list(self._timers):
            self._disarm(session_id)

    async def _stop(self, ledger: Ledger, why: str) -> None:
        session_id = ledger.session.session_id
        cause = Cause(code=CauseCode.BUDGET, message=why)
        try:
            with contextlib.suppress(StorageFailed, SessionReadOnly):
                running = [task.task_id for task in self._running(ledger)]
                await self._service.stop_tasks(ledger, dict.fromkeys(running, cause))
        finally:
            self._stopping.discard(session_id)
        if any(task.stop_cause is None for task in self._running(ledger)):
            self._arm(session_id, STORAGE_RETRY_S)

    def _running(self, ledger: Ledger) -> list[Task]:
        found = map(ledger.head, self._lanes.running(ledger.session.session_id))
        return [task for task in found if task is not None and task.state is State.RUNNING]

    def _arm(self, session_id: str, wait_s: float) -> None:
        self._disarm(session_id)
        loop = asyncio.get_running_loop()
        self._timers[session_id] = loop.call_later(min(FARTHEST_S, wait_s), self._ring, session_id)

    def _disarm(self, session_id: str) -> None:
        if (timer := self._timers.pop(session_id, None)) is not None:
            timer.cancel()

    def _ring(self, session_id: str) -> None:
        self._timers.pop(session_id, None)
        if (ledger := self._service.store.in_memory(session_id)) is not None:
            self.look(ledger.head_session)
