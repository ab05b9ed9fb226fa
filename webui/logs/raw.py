"""The bytes of a log: streamed through as they are, whole, a range, or those of some lines."""

from __future__ import annotations

import asyncio
import re
from contextlib import AbstractAsyncContextManager

import aiohttp
from aiohttp import web

from webui.contact import Status, Trouble
from webui.logs.log import Log
from webui.logs.window import lines_of, unanswered
from webui.passing import INERT_POLICY, passed_on
from webui.refusals import Refusal
from webui.upstream import CHUNK_BYTES
from webui.visit import Visit

_LINES = re.compile(r"(?P<first>[1-9][0-9]{0,14})-(?P<last>[1-9][0-9]{0,14})")
_PASSED = ("Accept-Ranges", "Content-Length", "Content-Range", "ETag")


async def streamed(visit: Visit, log: Log) -> web.StreamResponse:
    """The log as a file to be saved; `?lines=10-20` gives those lines alone.

    Raises:
        Refusal: there is no such range, or the agent did not answer.
    """
    request = visit.request
    named = log.file_name
    asked = {name: request.headers[name] for name in ("Range", "If-Range") if name in request.headers}
    span = None
    if given := visit.query.get("lines"):
        span = await _span(visit, log, given)
        named += f".lines-{given}"
        if span[0] >= span[1]:
            return web.Response(headers=_headers(named))
        asked = {"Range": f"bytes={span[0]}-{span[1] - 1}"}

    def head(answer: aiohttp.ClientResponse) -> web.StreamResponse:
        _check(answer, ranged=span is not None)
        passed = ("Content-Length",) if span is not None else _PASSED
        headers = _headers(named) | {name: answer.headers[name] for name in passed if name in answer.headers}
        return web.StreamResponse(status=200 if span is not None else answer.status, headers=headers)

    try:
        return await passed_on(request, _exchange(visit, log, asked), head)
    except Trouble as trouble:
        raise unanswered(visit, log.agent, trouble) from None


async def piece(visit: Visit, log: Log, start: int, end: int) -> str:
    """The text of some bytes of a log; characters that the edges cut belong to the piece that they begin in.

    Raises:
        Refusal: there is no such range, or the agent did not answer.
    """
    try:
        async with _exchange(visit, log, {"Range": f"bytes={start}-{end + 2}"}) as answer:
            _check(answer, ranged=True)
            found = bytearray()
            async for block in answer.content.iter_chunked(CHUNK_BYTES):
                found += block
                if len(found) >= end - start + 3:
                    break
    except Trouble as trouble:
        raise unanswered(visit, log.agent, trouble) from None
    first, last = 0, min(end - start, len(found))
    while start and first < min(3, last) and found[first] & 0xC0 == 0x80:
        first += 1
    while last < min(end - start + 3, len(found)) and found[last] & 0xC0 == 0x80:
        last += 1
    return found[first:last].decode("utf-8", "replace")


async def _span(visit: Visit, log: Log, given: str) -> tuple[int, int]:
    """The bytes of lines `10-20`, the end not included."""
    match = _LINES.fullmatch(given)
    if match is None or int(match["first"]) > int(match["last"]):
        raise Refusal(400, "malformed", f"lines: {given[:50]!r} is not FIRST-LAST, as in 10-20")
    first, last = await asyncio.gather(*(lines_of(visit, log, int(match[name]), 1) for name in ("first", "last")))
    if first is None or last is None:
        raise unanswered(visit, log.agent)
    begin = first.lines[0].offset if first.lines else last.size
    end = last.lines[0].offset + last.lines[0].length + 1 if last.lines else last.size
    return begin, min(end, last.size)


def _exchange(visit: Visit, log: Log, headers: dict[str, str]) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    return visit.upstream.exchange(
        log.agent,
        "GET",
        log.at_agent,
        token=visit.token_for(log.agent),
        params=log.params,
        headers={"Accept": "*/*", **headers},
    )


def _headers(name: str) -> dict[str, str]:
    return {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Disposition": f'attachment; filename="{re.sub(r"[^A-Za-z0-9._-]", "_", name)}.log"',
        "Content-Security-Policy": INERT_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }


def _check(answer: aiohttp.ClientResponse, *, ranged: bool) -> None:
    """Refuse what is not the bytes that were asked for."""
    if answer.status == 401:
        raise Trouble(Status.UNAUTHORIZED, "token_rejected")
    if answer.status == 416:
        raise Refusal(416, "range_not_satisfiable", "the range lies outside of the log")
    if 400 <= answer.status < 500:
        raise Refusal(answer.status, "refused", f"the agent refused it: {answer.status}")
    if answer.status not in ((206,) if ranged else (200, 206)):
        raise Trouble(Status.ERROR, "http_error", f"it answered {answer.status} where bytes were asked for")
