"""The output of a task as it comes: a stream that follows the log while it grows, through retries, to the end."""

from __future__ import annotations

import base64
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta

from agentd.errors import Invalid, Malformed, TaskNotFound, Unavailable
from agentd.http import sse
from agentd.http.log_watch import LogFollower
from agentd.http.routing import Call, Route
from agentd.http.tokens import Role
from agentd.model.task import Task, Value
from agentd.store.output import OutputLog

#: Bytes of one `output` event at most.
CHUNK_BYTES = 64 << 10


class Follow(Value, frozen=True, kw_only=True):
    """Parameters of GET /tasks/{task_id}/stream; without `attempt` it goes on through retries."""

    offset: Annotated[int, Meta(ge=0)] = 0
    attempt: Annotated[int, Meta(ge=1)] | None = None


async def follow(call: Call) -> web.StreamResponse:
    """Stream the log from an offset, live while the task runs, then `end` with the task."""
    task = await call.service.task(call.params["task_id"])
    call.service.output(task, call.query.attempt)  # an attempt that is not there is still a plain answer
    attempt, offset = _place(call, task)
    with call.seats:
        async with sse.EventStream(call, call.service.settings.http.heartbeat_s) as stream:
            await stream.hello(
                f"{attempt}:{offset}", seq=task.seq, boot_id=call.service.boot_id, attempt=attempt, offset=offset
            )
            task = await _Follower(call, stream, task, attempt, offset).run()
            await stream.send("end", msgspec.json.encode({"task": task}))
        return stream.response


class _Follower(LogFollower):
    """Sends what the log has."""

    def __init__(self, call: Call, stream: sse.EventStream, task: Task, attempt: int, offset: int) -> None:
        super().__init__(call, stream, task, attempt, one=call.query.attempt is not None)
        self._offset = offset

    def _begin(self, attempt: int) -> None:
        super()._begin(attempt)
        self._offset = 0

    async def _look(self, log: OutputLog, ended: bool) -> float | None:
        return 0 if await self._send_some(log, ended) else None

    async def _send_some(self, log: OutputLog, ended: bool) -> bool:
        """Send the next bytes, if there are some; a character that is not whole yet is left for later."""
        chunk = await self._service.in_thread(log.tail_from, self._offset, CHUNK_BYTES)
        event: dict[str, Any] = {"attempt": self._attempt, "offset": self._offset}
        try:
            event["text"] = chunk.decode()
        except UnicodeDecodeError as error:
            cut = error.start if len(chunk) - error.start < 4 and error.reason == "unexpected end of data" else 0
            if cut or (not ended and len(chunk) < 4 and error.reason == "unexpected end of data"):
                chunk = chunk[:cut]
                event["text"] = chunk.decode()
            else:
                event["base64"] = base64.b64encode(chunk).decode()
        if not chunk:
            return False
        self._offset += len(chunk)
        self._grew()
        await self._stream.send("output", msgspec.json.encode(event), f"{self._attempt}:{self._offset}")
        return True


def _place(call: Call, task: Task) -> tuple[int, int]:
    """Where to begin: behind what the reader has, or where it asks."""
    last = sse.last_event_id(call)
    if last is None:
        return call.query.attempt or max(1, task.attempt), call.query.offset
    attempt, _, offset = last.partition(":")
    if not all(each.isascii() and each.isdigit() and len(each) < 19 for each in (attempt, offset)):
        raise Malformed.field("Last-Event-ID", "must be the id of an output event")
    return max(1, min(int(attempt), max(1, task.attempt))), int(offset)


ROUTES = (
    Route(
        method="GET",
        path="/tasks/{task_id}/stream",
        name="stream_output",
        summary="The output as it comes: `output` events from any offset, then `end` with the task",
        handler=follow,
        role=Role.VIEWER,
        for_tasks=True,
        query=Follow,
        answers={200: sse.MEDIA_TYPE},
        errors=(TaskNotFound, Invalid, Unavailable),
    ),
)
