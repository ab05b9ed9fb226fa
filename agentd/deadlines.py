"""Timeouts of sessions: counted from the creation of the oldest unfinished task to the end of the last."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from agentd.clock import epoch
from agentd.errors import SessionReadOnly, StorageFailed
from agentd.model.session import Session
from agentd.model.task import Cause, CauseCode
from agentd.service import Service
from agentd.store.ledger import Ledger


class Deadlines:
    """One timer for each session that has a timeout and something unfinished. `own` keeps a coroutine running."""

    def __init__(self, service: Service, own: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._service = service
        self._own = own
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def arm(self, session: Session) -> None:
        """Watch the session, if it has a timeout; again: no effect."""
        session_id, timeout_s = session.session_id, session.policy.timeout_s
        if timeout_s is None or session_id in self._timers:
            return
        entry = self._service.store.entries.get(session_id)
        now = self._service.clock.time()
        began = _began(entry.ledger) if entry and entry.ledger else None
        delay = max(0.0, (began or now) + timeout_s - now)
        loop = asyncio.get_running_loop()
        self._timers[session_id] = loop.call_later(delay, lambda: self._own(self._due(session_id)))

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
        entry = self._service.store.entries.get(session_id)
        ledger = entry.ledger if entry else None
        if ledger is None or (timeout_s := ledger.session.policy.timeout_s) is None:
            return
        if (began := _began(ledger)) is None:
            return
        if began + timeout_s > self._service.clock.time():
            self.arm(ledger.session)
            return
        cause = Cause(code=CauseCode.SESSION_TIMEOUT, message=f"the session's timeout of {timeout_s:g} s was reached")
        with contextlib.suppress(StorageFailed, SessionReadOnly):
            await self._service.stop_all(ledger, cause)


def _began(ledger: Ledger) -> float | None:
    return min((epoch(task.created_at) for task in ledger.tasks.values() if not task.terminal), default=None)
