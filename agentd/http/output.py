"""Output of tasks: raw bytes with ranges, windows of lines, search."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from aiohttp import hdrs, web
from msgspec import Meta

from agentd.errors import Invalid, RangeNotSatisfiable, TaskNotFound
from agentd.http import answers, blocks, problems
from agentd.http.log_watch import has_ended
from agentd.http.queries import REQUIRED
from agentd.http.routing import Call, Route
from agentd.http.tokens import Role
from agentd.model.output import OutputLines, OutputMatches
from agentd.model.task import Value

_RANGE = re.compile(r"bytes=(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})")

#: One of the two that a task writes to; its bytes and lines are then counted alone.
Stream = Literal["out", "err"]


class Which(Value, frozen=True, kw_only=True):
    """Parameters of GET /tasks/{task_id}/output."""

    attempt: Annotated[int, Meta(ge=1)] | None = None
    stream: Stream | None = None


class Lines(Value, frozen=True, kw_only=True):
    """Parameters of GET /tasks/{task_id}/output/lines; a negative `line` counts from the end."""

    line: int = 1
    count: Annotated[int, Meta(ge=1, le=1000)] = 100
    attempt: Annotated[int, Meta(ge=1)] | None = None
    stream: Stream | None = None
    detail: bool = False


class Search(Value, frozen=True, kw_only=True):
    """Parameters of GET /tasks/{task_id}/output/search; the text is literal."""

    q: Annotated[str, Meta(max_length=1000, extra_json_schema={"minLength": 1, "pattern": r"^[^\n]+$"}), REQUIRED] = ""
    limit: int = 100
    from_line: Annotated[int, Meta(ge=1)] = 1
    ignore_case: bool = False
    attempt: Annotated[int, Meta(ge=1)] | None = None
    stream: Stream | None = None


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
        sent = await call.service.in_thread(log.open_range, start, end, call.query.stream)
        try:
            await blocks.send(call, response, iter(sent), end - start)
        finally:
            sent.close()
    await response.write_eof()
    return response


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
    query: Lines = call.query
    log = call.service.output(task, query.attempt)
    ended = has_ended(task, query.attempt or max(1, task.attempt))
    longest = call.service.settings.limits.line_bytes
    window = await call.service.in_thread(
        lambda: log.lines(query.line, query.count, longest, ended=ended, stream=query.stream, detail=query.detail)
    )
    return answers.hashed(call, window)


async def search(call: Call) -> web.StreamResponse:
    """Lines with a text."""
    task = await call.service.task(call.params["task_id"])
    log = call.service.output(task, call.query.attempt)
    query: Search = call.query
    longest = call.service.settings.limits.line_bytes
    found = await call.service.in_thread(
        lambda: log.search(
            query.q,
            query.limit,
            longest,
            from_line=query.from_line,
            ignore_case=query.ignore_case,
            stream=query.stream,
        )
    )
    return answers.json(call, found)


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
)
