"""Output of tasks: raw bytes with ranges, windows of lines, search, and a stream that follows the log as it grows."""

from __future__ import annotations

import asyncio
import base64
import re
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import hdrs, web
from msgspec import Meta

from agentd.bus import BusClosed, SlowReader, Subscription
from agentd.errors import Invalid, Malformed, RangeNotSatisfiable, TaskNotFound, Unavailable
from agentd.http import answers, problems, sse
from agentd.http.routing import Call, Route
from agentd.http.tokens import Role
from agentd.model.requests import OutputLines, OutputMatches
from agentd.model.task import Task, Value
from agentd.store.output import OutputLog

#: Bytes of one `output` event at most.
CHUNK_BYTES = 64 << 10
#: The log grows outside the daemon: how often a running task's is looked at while somebody follows it.
LOOK_S = 0.1

_RANGE = re.compile(r"bytes=(?P<first>\d{0,18})-(?P<last>\d{0,18})")


class Which(Value, frozen=True, kw_only=True):
    """Parameters of GET /tasks/{task_id}/output."""

    attempt: Annotated[int, Meta(ge=1)] | None = None
    stream: Literal["out", "err"] | None = None


class Lines(Value, frozen=True, kw_only=True):
    """Parameters of GET /tasks/{task_id}/output/lines; a negative `line` counts from the end."""

    line: int = 1
    count: Annotated[int, Meta(ge=1, le=1000)] = 100
    attempt: Annotated[int, Meta(ge=1)] | None = None


class Search(Value, frozen=True, kw_only=True):
    """Parameters of GET /tasks/{task_id}/output/search; the text is literal."""

    q: Annotated[str, Meta(max_length=1000)] = ""
    limit: int = 100
    from_line: Annotated[int, Meta(ge=1)] = 1
    ignore_case: bool = False
    attempt: Annotated[int, Meta(ge=1)] | None = None


class Follow(Value, frozen=True, kw_only=True):
    """Parameters of GET /tasks/{task_id}/stream; without `attempt` it goes on through retries."""

    offset: Annotated[int, Meta(ge=0)] = 0
    attempt: Annotated[int, Meta(ge=1)] | None = None


async def raw(call: Call) -> web.StreamResponse:
    """Send the bytes, or those of a range."""
    task = await call.service.task(call.params["task_id"])
    log = call.service.output(task, call.query.attempt)
    size = await call.service.in_thread(log.size, call.query.stream)
    attempt = call.query.attempt or max(1, task.attempt)
    etag = f'"{task.task_id}.{attempt}-{call.query.stream or "all"}-{size}"'
    if answers.is_known(call, etag):
        return answers.not_modified(call, etag)
    span = _span(call, size, etag)
    if span is None:
        refused = problems.answer(
            "range_not_satisfiable", f"the output has {size} bytes; the range lies outside", call.request_id
        )
        refused.headers["Content-Range"] = f"bytes */{size}"
        return refused
    start, end = span
    partial = (start, end) != (0, size) or _ranged(call, etag)
    found = answers.headers(call, "application/octet-stream", ETag=etag, Accept_Ranges="bytes")
    found["Content-Length"] = str(end - start)
    if partial:
        found["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    response = web.StreamResponse(status=206 if partial else 200, headers=found)
    call.streaming = response
    await response.prepare(call.request)
    if call.request.method != "HEAD":
        await _send(call, log, response, start, end)
    await response.write_eof()
    return response


async def _send(call: Call, log: OutputLog, response: web.StreamResponse, start: int, end: int) -> None:
    """Send bytes `start` to `end`; each block is read in a thread."""
    blocks = await call.service.in_thread(log.open_range, start, end, call.query.stream)
    left = end - start
    try:
        each = iter(blocks)
        while left and (block := await call.service.in_thread(next, each, None)):
            left -= len(block)
            async with asyncio.timeout(sse.STALLED_S * 3):
                await response.write(block)
    finally:
        blocks.close()
    if left:
        raise ConnectionResetError("the log was cut while it was sent")


def _ranged(call: Call, etag: str) -> bool:
    """Whether one range is asked for that we serve; another form is ignored, as RFC 9110 §14.2 allows."""
    given = call.request.headers.get(hdrs.RANGE)
    match = _RANGE.fullmatch(given.strip()) if given else None
    if match is None or not (match["first"] or match["last"]):
        return False
    if match["first"] and match["last"] and int(match["first"]) > int(match["last"]):
        return False
    condition = call.request.headers.get(hdrs.IF_RANGE)
    return condition is None or condition.strip() == etag


def _span(call: Call, size: int, etag: str) -> tuple[int, int] | None:
    """The bytes to send, the end not included; None when the range lies outside."""
    if not _ranged(call, etag):
        return 0, size
    match = _RANGE.fullmatch(call.request.headers[hdrs.RANGE].strip())
    assert match is not None
    if not match["first"]:
        length = int(match["last"])
        return (max(0, size - length), size) if length and size else None
    first = int(match["first"])
    if first >= size:
        return None
    return first, min(size, int(match["last"]) + 1) if match["last"] else size


async def lines(call: Call) -> web.StreamResponse:
    """A window of lines."""
    task = await call.service.task(call.params["task_id"])
    log = call.service.output(task, call.query.attempt)
    ended = _has_ended(task, call.query.attempt or max(1, task.attempt))
    longest = call.service.settings.limits.line_bytes
    window = await call.service.in_thread(lambda: log.lines(call.query.line, call.query.count, longest, ended=ended))
    return answers.hashed(call, window)


async def search(call: Call) -> web.StreamResponse:
    """Lines with a text."""
    task = await call.service.task(call.params["task_id"])
    log = call.service.output(task, call.query.attempt)
    query: Search = call.query
    longest = call.service.settings.limits.line_bytes
    found = await call.service.in_thread(
        lambda: log.search(query.q, query.limit, longest, from_line=query.from_line, ignore_case=query.ignore_case)
    )
    return answers.json(call, found)


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
            task = await _Follower(call, stream, task.task_id, attempt, offset).run()
            await stream.send("end", msgspec.json.encode({"task": task}))
        return stream.response


class _Follower:
    """Sends what an attempt's log has, then what it gets, then goes to the next attempt if it may."""

    def __init__(self, call: Call, stream: sse.EventStream, task_id: str, attempt: int, offset: int) -> None:
        self._call = call
        self._service = call.service
        self._stream = stream
        self._task_id = task_id
        self._attempt = attempt
        self._offset = offset
        self._one = call.query.attempt is not None

    async def run(self) -> Task:
        """Send all of it; the task when there is no more to come."""
        limit = self._service.settings.limits.sse_buffer
        task = await self._service.task(self._task_id)
        while True:
            async with self._service.bus.subscribe(task.session_id, limit) as live:
                task = await self._service.task(self._task_id)
                try:
                    return await self._followed(task, live)
                except SlowReader:
                    continue  # others in the session said much; what counts is read again

    async def _followed(self, task: Task, live: Subscription) -> Task:
        while True:
            ended = _has_ended(task, self._attempt)
            log = self._service.output(task, min(self._attempt, max(1, task.attempt)))
            sent = await self._send_some(log, ended)
            if sent:
                continue
            if ended:
                if self._one or (task.terminal and task.attempt <= self._attempt):
                    return task
                if task.attempt > self._attempt:
                    self._attempt, self._offset = self._attempt + 1, 0
                    continue
            running = not ended and task.attempt == self._attempt
            if await self._changed(live, LOOK_S if running else None):
                task = await self._service.task(self._task_id)
            elif self._service.bus.closed:
                return task

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
        await self._stream.send("output", msgspec.json.encode(event), f"{self._attempt}:{self._offset}")
        return True

    async def _changed(self, live: Subscription, look_s: float | None) -> bool:
        """Wait for an event of the task, or for the time to look at the log again, with heartbeats between."""
        name = self._task_id.encode()
        quiet = self._stream.quiet_s
        try:
            async with asyncio.timeout(quiet if look_s is None else min(look_s, quiet)):
                while name not in (await live.get())[1]:
                    pass
        except TimeoutError:
            await self._stream.beat()
            return False
        except BusClosed:
            return False
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


def _has_ended(task: Task, attempt: int) -> bool:
    if task.terminal or task.attempt > attempt:
        return True
    return task.attempt == attempt and bool(task.attempts) and task.attempts[-1].ended_at is not None


_OUTPUT = "/tasks/{task_id}/output"

ROUTES = (
    Route(
        method="GET",
        path=_OUTPUT,
        name="get_output",
        summary="The raw output of an attempt, with Range",
        description="The latest attempt, unless one is named. `stream` gives what went to one of the two alone.",
        handler=raw,
        role=Role.VIEWER,
        for_tasks=True,
        query=Which,
        answers={200: "application/octet-stream", 206: "application/octet-stream"},
        errors=(TaskNotFound, Invalid, RangeNotSatisfiable),
    ),
    Route(
        method="GET",
        path=_OUTPUT + "/lines",
        name="get_output_lines",
        summary="A window of lines by number; line=-100 is the hundredth from the end",
        handler=lines,
        role=Role.VIEWER,
        for_tasks=True,
        query=Lines,
        answers={200: OutputLines},
        errors=(TaskNotFound, Invalid),
    ),
    Route(
        method="GET",
        path=_OUTPUT + "/search",
        name="search_output",
        summary="Lines that hold a text, over the whole log",
        handler=search,
        role=Role.VIEWER,
        for_tasks=True,
        query=Search,
        answers={200: OutputMatches},
        errors=(TaskNotFound, Invalid),
    ),
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
