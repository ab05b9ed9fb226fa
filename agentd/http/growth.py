"""How a task's log grows: its size and its lines as they change, for a view that reads only what it shows."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from agentd.errors import Invalid, TaskNotFound, Unavailable
from agentd.http import sse
from agentd.http.log_watch import LogFollower
from agentd.http.output import Stream
from agentd.http.routing import Call, Route
from agentd.http.tokens import Role
from agentd.model.output import OutputGrowth
from agentd.model.task import Task, Value
from agentd.store.output import OutputLog

#: Seconds between two events of one attempt; its end is told at once.
GROWTH_S = 0.25


class Growth(Value, frozen=True, kw_only=True):
    """Parameters of GET /tasks/{task_id}/output/growth; without `attempt` it goes on through retries."""

    attempt: Annotated[int, Meta(ge=1)] | None = None
    stream: Stream | None = None


async def growth(call: Call) -> web.StreamResponse:
    """Stream how large the log is, live while the task runs, then `end` with the task."""
    task = await call.service.task(call.params["task_id"])
    call.service.output(task, call.query.attempt)  # an attempt that is not there is still a plain answer
    attempt = call.query.attempt or max(1, task.attempt)
    with call.seats:
        async with sse.EventStream(call, call.service.settings.http.heartbeat_s) as stream:
            await stream.hello(None, seq=task.seq, boot_id=call.service.boot_id, attempt=attempt)
            task = await _Teller(call, stream, task, attempt).run()
            await stream.send("end", msgspec.json.encode({"task": task}))
        return stream.response


class _Teller(LogFollower):
    """Tells how large the log is."""

    def __init__(self, call: Call, stream: sse.EventStream, task: Task, attempt: int) -> None:
        super().__init__(call, stream, task, attempt, one=call.query.attempt is not None)
        self._side: Stream | None = call.query.stream
        self._told: OutputGrowth | None = None
        self._told_at = 0.0

    async def _look(self, log: OutputLog, ended: bool) -> float | None:
        size, lines = await self._service.in_thread(log.extent, self._side)
        now = OutputGrowth(attempt=self._attempt, size=size, total_lines=lines, ended=ended)
        before = self._told
        if now == before:
            return None
        self._grew()
        if before is not None and (before.attempt, before.ended) == (now.attempt, now.ended):
            early_s = self._told_at + GROWTH_S - self._loop.time()
            if early_s > 0:
                return early_s
        self._told, self._told_at = now, self._loop.time()
        await self._stream.send("growth", msgspec.json.encode(now))
        return None


ROUTES = (
    Route(
        method="GET",
        path="/tasks/{task_id}/output/growth",
        name="stream_growth",
        summary="How large the output is, as it grows: `growth` events, then `end` with the task",
        handler=growth,
        role=Role.VIEWER,
        for_tasks=True,
        query=Growth,
        answers={200: sse.MEDIA_TYPE},
        errors=(TaskNotFound, Invalid, Unavailable),
    ),
)
