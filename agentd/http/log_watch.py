"""When to look at a task's log again, while somebody follows it."""

from __future__ import annotations

import asyncio

from agentd.bus import BusClosed, Subscription
from agentd.http import sse
from agentd.model.task import Task

#: The log grows outside the daemon: how often a running task's is looked at while somebody follows it.
LOOK_S = 0.1
#: The same once a task has said nothing for QUIET_S: most long tasks are silent most of the time.
QUIET_LOOK_S = 0.5
QUIET_S = 10.0


class LogWatch:
    """Waits for what may have changed, and keeps the stream's heartbeat meanwhile."""

    def __init__(self, stream: sse.EventStream, task_id: str) -> None:
        self._stream = stream
        self._name = task_id.encode()
        self._loop = asyncio.get_running_loop()
        self._grew_at = self._loop.time()

    def grew(self) -> None:
        """The log has more: look more often for a while."""
        self._grew_at = self._loop.time()

    async def changed(self, live: Subscription, *, running: bool, due_s: float | None = None) -> bool:
        """Wait for an event of the task; False when it is time to look at the log: one that runs, or in `due_s`."""
        quiet = self._stream.quiet_s
        wait = min(quiet, self._look_s) if running else quiet
        try:
            async with asyncio.timeout(wait if due_s is None else min(wait, due_s)):
                while self._name not in (await live.get())[1]:
                    pass
        except TimeoutError:
            await self._stream.beat()
            return False
        except BusClosed:
            return False
        return True

    @property
    def _look_s(self) -> float:
        return LOOK_S if self._loop.time() - self._grew_at < QUIET_S else QUIET_LOOK_S


def has_ended(task: Task, attempt: int) -> bool:
    """Whether no more output comes of this attempt."""
    if task.terminal or task.attempt > attempt:
        return True
    return task.attempt == attempt and bool(task.attempts) and task.attempts[-1].ended_at is not None


def is_over(task: Task, attempt: int, *, one: bool) -> bool:
    """Whether nothing follows an attempt that has ended: `one` asks for it alone, else later ones count."""
    return one or (task.terminal and task.attempt <= attempt)
