"""The HTTP server itself: what cannot even be read as a request is answered as a problem document, too.

It stands on aiohttp's low-level server: the API's own table finds routes, so that every refusal is ours.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong

from agentd.config import Limits
from agentd.http import problems

#: Of the request line; that of a header is `limits.header_bytes`.
LINE_BYTES = 8190
MAX_HEADERS = 100
#: Idle connections are closed after so long.
KEEPALIVE_S = 75.0
#: How long the rest of a body that nobody wants is read, so that the client sees the answer.
LINGER_S = 2.0
#: What requests in progress get when the server stops.
SHUTDOWN_S = 1.0

#: Descriptors that are neither connections nor counted by `connections_for`: the daemon's own, and what files are
#: opened for a moment.
SPARE_FILES = 256
#: Above the bound, connections that are told so; more at once are closed without a word.
TURNED_AWAY = 64
#: How long one that was told so gets to read it.
FAREWELL_S = 1.0

#: Set in a request whose answer is an endless stream.
ONLY_SENDS = web.RequestKey("only_sends", bool)
#: Set in a request of a version that is not spoken here.
OTHER_VERSION = web.RequestKey("other_version", str)

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Refuse = Callable[[web.BaseRequest, str, str], web.StreamResponse]


class Runner(web.ServerRunner):
    """Runs the server; `setup` it, add sites, and `cleanup` at the end."""

    def __init__(self, answer: Answer, refuse: Refuse, *, header_bytes: int, connections: int) -> None:
        super().__init__(_Server(answer, refuse, header_bytes, connections), shutdown_timeout=SHUTDOWN_S)


def connections_for(limits: Limits, workers: int) -> int:
    """How many connections leave descriptors enough for sessions in memory and for workers."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return limits.connections
    kept = 2 * limits.resident_sessions + 4 * workers + SPARE_FILES
    return max(1, min(limits.connections, max(files - kept, files // 4)))


class _Server(web.Server):
    """Makes connections; at the bound, room for new ones."""

    def __init__(self, answer: Answer, refuse: Refuse, header_bytes: int, most: int) -> None:
        super().__init__(answer, request_factory=_request)
        self._refuse = refuse
        self._header_bytes = header_bytes
        self._most = most
        #: Those that stay, the oldest first; aiohttp's own list keeps one that has gone until its task has ended.
        self._staying: dict[_Connection, None] = {}
        self._turned_away = 0

    def __call__(self) -> asyncio.Protocol:  # type: ignore[override] # what a loop makes connections with
        over = len(self._staying) - self._most + 1
        if over > 0 and not self._made_room(over):
            return _TurnedAway(self)
        return _Connection(self, self._refuse, self._header_bytes)

    def _made_room(self, over: int) -> bool:
        """Close those that ask nothing, the oldest first, and a few more than must go; whether there was one."""
        found = list(islice((each for each in self._staying if each.waits), over + self._most // 64))
        for connection in found:
            del self._staying[connection]
            connection.force_close()
        return bool(found)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        assert isinstance(handler, _Connection)
        self._staying[handler] = None

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._staying.pop(handler, None)  # type: ignore[call-overload]

    def turned_away(self, more: int) -> bool:
        """Count those that are told to come back later; whether there is room for another."""
        self._turned_away += more
        return self._turned_away <= TURNED_AWAY


def _request(message: Any, payload: Any, connection: Any, writer: Any, task: asyncio.Task[None]) -> web.BaseRequest:
    """A request. An answer has its version, so that of another protocol is written down, and answered in ours."""
    spoken = message.version in (HttpVersion10, HttpVersion11)
    ours = message if spoken else message._replace(version=HttpVersion11)
    request = web.BaseRequest(ours, payload, connection, writer, task, asyncio.get_running_loop())
    if not spoken:
        request[OTHER_VERSION] = f"HTTP/{message.version.major}.{message.version.minor}"
    return request


class _TurnedAway(asyncio.Protocol):
    """A connection beyond the bound: it is told so, whatever it asks."""

    def __init__(self, server: _Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if not self._server.turned_away(1):
            transport.abort()
            return
        transport.write(_full())
        transport.write_eof()  # and what it sends is read, lest a reset overtakes the answer
        asyncio.get_running_loop().call_later(FAREWELL_S, transport.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._server.turned_away(-1)


def _full() -> bytes:
    refused = problems.answer("unavailable", "too many connections (limits.connections); come back later", "none")
    body = refused.body
    assert isinstance(body, bytes)
    headers = {**refused.headers, "Content-Length": str(len(body)), "Connection": "close"}
    head = ["HTTP/1.1 503 Service Unavailable", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(head).encode() + body


class _Connection(web.RequestHandler):
    __slots__ = ("_refuse",)

    def __init__(self, server: web.Server, refuse: Refuse, header_bytes: int) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # the API counts and logs
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGER_S,
            max_line_size=LINE_BYTES,
            max_field_size=header_bytes,
            max_headers=MAX_HEADERS,
            auto_decompress=False,
        )
        self._refuse = refuse

    @property
    def waits(self) -> bool:
        """Whether it asks nothing."""
        return self._current_request is None and not self._messages

    def connection_lost(self, exc: BaseException | None) -> None:
        """End what only sends to a reader that has gone, at once and not at its next heartbeat; all else goes on."""
        request, handler = self._current_request, self._task_handler
        super().connection_lost(exc)
        if request is not None and handler is not None and request.get(ONLY_SENDS):
            handler.cancel()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be read; aiohttp calls it, and closes the connection."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        response = self._refuse(request, *_reason(status, exc, message))
        response.force_close()
        return response


def _reason(status: int, error: BaseException | None, message: str | None) -> tuple[str, str]:
    if isinstance(error, LineTooLong):
        if error.args[1] == LINE_BYTES:
            return "uri_too_long", f"the request line is longer than {LINE_BYTES} bytes"
        return "headers_too_large", f"a header is longer than {error.args[1]} bytes (limits.header_bytes)"
    if isinstance(error, BadHttpMethod):
        return "malformed", "this is no method of HTTP, or no HTTP at all; agentd speaks plain HTTP/1.1"
    if message is not None and "headers" in message.lower() and "too many" in message.lower():
        return "headers_too_large", f"there are more than {MAX_HEADERS} headers"
    if status < 500:
        return "malformed", (message or "the request cannot be read").split("\n")[0][:200]
    return "internal", "the request could not be answered"
