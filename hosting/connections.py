"""Connections within bounds, and an answer of ours even to what is no request at all.

It stands on aiohttp's low-level server, which reads requests and writes answers. Which bounds are right, and how a
refusal looks, whoever serves says in `Terms`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong

MAX_HEADERS = 100
#: Connections without a request, or with half the head of one, are closed after so long.
KEEPALIVE_S = 75.0
#: How long the rest of a body that nobody wants is read, so that the client sees the answer.
LINGER_S = 2.0
#: What requests in progress get when the server stops.
SHUTDOWN_S = 1.0
#: Above the bound, connections that are told so; more at once are closed without a word.
TURNED_AWAY = 64
#: How long one that was told so gets to read it.
FAREWELL_S = 1.0

#: Set in a request of a version that is not spoken here.
OTHER_VERSION = web.RequestKey("other_version", str)


class Unreadable(NamedTuple):
    """Why what came is no request, with the status to answer."""

    status: int
    code: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What whoever serves asks of clients, and says to them.

    Requests are what the server's `make_request` makes.
    """

    connections: int  #: open at once
    line_bytes: int  #: of the request line
    header_bytes: int  #: of one header
    header_setting: str = ""  #: what sets that, for people who may
    refuse: Callable[[Any, Unreadable], web.StreamResponse]  #: the answer to what cannot be read
    farewell: web.Response  #: to a connection above the bound
    forsaken: Callable[[Any], bool]  #: whether a request is given up when its client has gone


class Server(web.Server):
    """Makes connections; at the bound, those that ask nothing make room for new ones, the oldest first.

    Args:
        answer: to each request.
        make_request: as aiohttp calls it; None makes a `web.BaseRequest`.
    """

    def __init__(
        self, answer: Callable[[Any], Awaitable[web.StreamResponse]], terms: Terms, make_request: Any = None
    ) -> None:
        super().__init__(answer, request_factory=make_request)
        self._make = self.request_factory
        self.request_factory = self._request
        self.terms = terms
        self.farewell = _written(terms.farewell)
        #: Those that stay, the oldest first; aiohttp's own list keeps one that has gone until its task has ended.
        self._staying: dict[_Connection, None] = {}
        self._turned_away = 0

    def __call__(self) -> asyncio.Protocol:  # type: ignore[override] # what a loop makes connections with
        over = len(self._staying) - self.terms.connections + 1
        if over > 0 and not self._made_room(over):
            return _TurnedAway(self)
        return _Connection(self)

    def _made_room(self, over: int) -> bool:
        """Close those that ask nothing, the oldest first, and a few more than must go; whether there was one."""
        found = list(islice((each for each in self._staying if each.waits), over + self.terms.connections // 64))
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

    def _request(self, message: Any, *rest: Any) -> web.BaseRequest:
        """A request. An answer has its version, so that of another protocol is written down, and answered in ours."""
        if message.version in (HttpVersion10, HttpVersion11):
            return self._make(message, *rest)
        request = self._make(message._replace(version=HttpVersion11), *rest)
        request[OTHER_VERSION] = f"HTTP/{message.version.major}.{message.version.minor}"
        return request


class _TurnedAway(asyncio.Protocol):
    """A connection above the bound: it is told so, whatever it asks."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if not self._server.turned_away(1):
            transport.abort()
            return
        transport.write(self._server.farewell)
        if transport.can_write_eof():  # TLS cannot
            transport.write_eof()
        # And what it sends is read, lest a reset overtakes the answer.
        asyncio.get_running_loop().call_later(FAREWELL_S, transport.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._server.turned_away(-1)


class _Connection(web.RequestHandler):
    __slots__ = ("_terms",)

    def __init__(self, server: Server) -> None:
        self._terms = server.terms
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # whoever serves counts and logs
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGER_S,
            max_line_size=self._terms.line_bytes,
            max_field_size=self._terms.header_bytes,
            max_headers=MAX_HEADERS,
            auto_decompress=False,
        )

    @property
    def waits(self) -> bool:
        """Whether it asks nothing."""
        return self._current_request is None and not self._messages

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give up what was asked, at once, if nothing comes of it without a reader; all else goes on."""
        request, handler = self._current_request, self._task_handler
        super().connection_lost(exc)
        if request is not None and handler is not None and self._terms.forsaken(request):
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
        response = self._terms.refuse(request, _reason(self._terms, status, exc, message))
        response.force_close()
        return response


def _reason(terms: Terms, status: int, error: BaseException | None, message: str | None) -> Unreadable:
    if isinstance(error, LineTooLong):
        if error.args[1] == terms.line_bytes:
            return Unreadable(414, "uri_too_long", f"the request line is longer than {terms.line_bytes} bytes")
        setting = terms.header_setting and f" ({terms.header_setting})"
        return Unreadable(431, "headers_too_large", f"a header is longer than {error.args[1]} bytes{setting}")
    if isinstance(error, BadHttpMethod):
        detail = "this is no method of HTTP, or no HTTP at all; is it TLS that is asked for?"
        return Unreadable(400, "malformed", detail)
    if message is not None and "headers" in message.lower() and "too many" in message.lower():
        return Unreadable(431, "headers_too_large", f"there are more than {MAX_HEADERS} headers")
    if status < 500:
        detail = (message or "the request cannot be read").split("\n")[0].rstrip(":")[:200]
        return Unreadable(400, "malformed", detail)
    return Unreadable(500, "internal", "the request could not be answered")


def _written(answer: web.Response) -> bytes:
    """The answer as bytes that say that nothing comes after it."""
    body = answer.body
    assert isinstance(body, bytes)
    headers = {**answer.headers, "Content-Length": str(len(body)), "Connection": "close"}
    head = [f"HTTP/1.1 {answer.status} {answer.reason}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*head, "", ""]).encode() + body
