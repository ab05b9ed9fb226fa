"""Following a task's log: when to look at it again, and from attempt to attempt until there is no more to come."""

from __future__ import annotations

import asyncio

from agentd.bus import BusClosed, SlowReader, Subscription
from agentd.http import sse
from agentd.http.routing import Call
from agentd.model.task import Task
from agentd.store.output import OutputLog

#: The log grows outside the daemon: how often a running task's is looked at while somebody follows it.
LOOK_S = 0.1
#: The same once a task has said nothing for QUIET_S: most long tasks are silent most of the time.
QUIET_LOOK_S = 0.5
QUIET_S = 10.0


class LogFollower:
    """Looks at an attempt's log while it may grow, then at the next attempt's if it may, and keeps the heartbeat.

    What a look sends is the subclass's, in `_look`.

    Args:
        one: follow this attempt alone, else later ones count too.
    """

    def __init__(self, call: Call, stream: sse.EventStream, task: Task, attempt: int, *, one: bool) -> None:
        self._service = call.service
        self._stream = stream
        self._task_id = task.task_id
        self._session_id = task.session_id
        self._attempt = attempt
        self._one = one
        self._loop = asyncio.get_running_loop()
        self._grew_at = self._loop.time()

    async def run(self) -> Task:
        """Follow to the end; the task when there is no more to come."""
        limit = self._service.settings.limits.sse_buffer
        while True:
            async with self._service.bus.subscribe(self._session_id, limit) as live:
                try:
                    return await self._followed(live)
                except SlowReader:
                    continue  # others in the session said much; what counts is read again

    async def _look(self, log: OutputLog, ended: bool) -> float | None:
        """Send what is new; in how many seconds to look again, 0 at once, None when something happens."""
        raise NotImplementedError

    def _grew(self) -> None:
        """The log has more: look more often for a while."""
        self._grew_at = self._loop.time()

    def _begin(self, attempt: int) -> None:
        """Go on with the log of another attempt."""
        self._attempt = attempt

    async def _followed(self, live: Subscription) -> Task:
        task = await self._service.task(self._task_id)
        while True:
            ended = has_ended(task, self._attempt)
            due_s = await self._look(self._service.output(task, min(self._attempt, max(1, task.attempt))), ended)
            if due_s == 0:
                continue
            if ended:
                if self._one or (task.terminal and task.attempt <= self._attempt):
                    return task
                if task.attempt > self._attempt:
                    self._begin(self._attempt + 1)
                    continue
            running = not ended and task.attempt == self._attempt
            if await self._changed(live, running=running, due_s=due_s):
                task = await self._service.task(self._task_id)
            elif self._service.bus.closed:
                return task

    async def _changed(self, live: Subscription, *, running: bool, due_s: float | None) -> bool:
        """Wait for an event of the task; False when it is time to look at the log: one that runs, or in `due_s`."""
        name = self._task_id.encode()
        quiet = self._stream.quiet_s
        wait = min(quiet, self._look_s) if running else quiet
        try:
            async with asyncio.timeout(wait if due_s is None else min(wait, due_s)):
                while name not in (await live.get())[1]:
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
