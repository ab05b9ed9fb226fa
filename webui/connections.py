"""Connections of browsers: their limits, and an answer of ours even to what is no request at all."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from itertools import islice
from typing import Any

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong

from webui.refusals import Refusal

#: Of the request line: the cursor of a merged list takes about 120 bytes for each agent.
LINE_BYTES = 64 << 10
#: Of one header; a cookie has at most 4 KiB.
HEADER_BYTES = 8190
MAX_HEADERS = 100
#: Connections without a request, or with half the head of one, are closed after so long.
KEEPALIVE_S = 75.0
#: How long the rest of a body that nobody wants is read, so that the client sees the answer.
LINGER_S = 2.0
#: What requests in progress get when the viewer stops.
SHUTDOWN_S = 1.0

#: Open at once, where the system allows the viewer twice as many files: the other half is for agents.
CONNECTIONS = 10_000
#: Above the bound, connections that are told so; more at once are closed without a word.
TURNED_AWAY = 64
#: How long one that was told so gets to read it.
FAREWELL_S = 1.0
_FULL = b"""\
HTTP/1.1 503 Service Unavailable\r
Content-Type: text/plain\r
Content-Length: 41\r
Retry-After: 2\r
Connection: close\r
\r
The viewer has too many open connections.
"""[:-1]

#: Set in a request of a version that is not spoken here.
OTHER_VERSION = web.RequestKey("other_version", str)

Refuse = Callable[[web.Request, Refusal], web.Response]


def connections_allowed() -> int:
    """How many connections there may be, with as many files left for agents; takes all files that the system allows."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    return CONNECTIONS if files == resource.RLIM_INFINITY else min(CONNECTIONS, files // 2)


class Runner(web.AppRunner):
    """Runs an application; `setup` it, add sites, and `cleanup` at the end. `refuse` makes what refuses look ours."""

    __slots__ = ("_refuse",)

    def __init__(self, app: web.Application, refuse: Refuse) -> None:
        super().__init__(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
        self._refuse = refuse

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made, self._refuse)


class _Server(web.Server):
    def __init__(self, made: web.Server, refuse: Refuse) -> None:
        super().__init__(made.request_handler, request_factory=self._request, handler_cancellation=True)
        self._made = made.request_factory
        self._refuse = refuse
        self._most = connections_allowed()
        self._leaving = 0
        self._turned_away = 0

    def __call__(self) -> asyncio.Protocol:  # type: ignore[override] # what a loop makes connections with
        over = len(self._connections) - self._leaving - self._most + 1
        if over > 0 and not self._made_room(over):
            return _TurnedAway(self)
        return _Connection(self, self._refuse)

    def _request(self, message: Any, *rest: Any) -> web.BaseRequest:
        """A request. An answer has its version, so that of another protocol is written down, and answered in ours."""
        if message.version in (HttpVersion10, HttpVersion11):
            return self._made(message, *rest)
        request = self._made(message._replace(version=HttpVersion11), *rest)
        request[OTHER_VERSION] = f"HTTP/{message.version.major}.{message.version.minor}"
        return request

    def _made_room(self, over: int) -> bool:
        """Close those that ask nothing, the oldest first, and a few more than must go; whether there was one."""
        waiting = (each for each in self._connections if isinstance(each, _Connection) and each.waits)
        found = list(islice(waiting, over + self._most // 64))
        for connection in found:
            self._leaving += 1
            connection.leave()
        return bool(found)

    def left(self) -> None:
        """One that was asked to leave has gone."""
        self._leaving -= 1

    def turned_away(self, more: int) -> bool:
        """Count those that are told to come back later; whether there is room for another."""
        self._turned_away += more
        return self._turned_away <= TURNED_AWAY


class _TurnedAway(asyncio.Protocol):
    """A connection beyond the bound: it is told so, whatever it asks."""

    def __init__(self, server: _Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if not self._server.turned_away(1):
            transport.abort()
            return
        transport.write(_FULL)
        if transport.can_write_eof():  # and what it sends is read, lest a reset overtakes the answer
            transport.write_eof()
        asyncio.get_running_loop().call_later(FAREWELL_S, transport.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._server.turned_away(-1)


class _Connection(web.RequestHandler):
    __slots__ = ("_leaves", "_refuse")

    def __init__(self, server: web.Server, refuse: Refuse) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # nobody reads it
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGER_S,
            max_line_size=LINE_BYTES,
            max_field_size=HEADER_BYTES,
            max_headers=MAX_HEADERS,
            auto_decompress=False,
        )
        self._refuse = refuse
        self._leaves = False

    @property
    def waits(self) -> bool:
        """Whether it asks nothing, and was not asked to leave."""
        return self._current_request is None and not self._messages and not self._leaves

    def leave(self) -> None:
        """Go, for one that may have a question."""
        self._leaves = True
        self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Make its place free."""
        server = self._manager
        super().connection_lost(exc)
        if self._leaves and isinstance(server, _Server):
            server.left()

    def handle_error(
        self,
        request: Any,  # a web.Request, by the application's own factory
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be read; aiohttp calls it, and closes the connection."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        response = self._refuse(request, _refusal(status, exc, message))
        response.force_close()
        return response


def _refusal(status: int, error: BaseException | None, message: str | None) -> Refusal:
    if isinstance(error, LineTooLong):
        return Refusal(431, "headers_too_large", f"the request line or a header is longer than {error.args[1]} bytes")
    if isinstance(error, BadHttpMethod):
        return Refusal(400, "malformed", "this is no method of HTTP, or no HTTP at all; is it TLS that is asked for?")
    if message is not None and "too many" in message.lower():
        return Refusal(431, "headers_too_large", f"there are more than {MAX_HEADERS} headers")
    if status < 500:
        return Refusal(status, "malformed", (message or "the request cannot be read").split("\n")[0].rstrip(":")[:200])
    return Refusal(500, "internal", "the request could not be answered")
