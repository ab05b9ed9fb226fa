"""The HTTP server itself: what cannot even be read as a request is answered as a problem document, too.

It stands on aiohttp's low-level server: the API's own table finds routes, so that every refusal is ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong

#: Of the request line; that of a header is `limits.header_bytes`.
LINE_BYTES = 8190
MAX_HEADERS = 100
#: Idle connections are closed after so long.
KEEPALIVE_S = 75.0
#: How long the rest of a body that nobody wants is read, so that the client sees the answer.
LINGER_S = 2.0
#: What requests in progress get when the server stops.
SHUTDOWN_S = 1.0

#: Set in a request whose answer is an endless stream.
ONLY_SENDS = web.RequestKey("only_sends", bool)

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Refuse = Callable[[web.BaseRequest, str, str], web.StreamResponse]


class Runner(web.ServerRunner):
    """Runs the server; `setup` it, add sites, and `cleanup` at the end."""

    def __init__(self, answer: Answer, refuse: Refuse, *, header_bytes: int) -> None:
        super().__init__(_Server(answer, refuse, header_bytes), shutdown_timeout=SHUTDOWN_S)


class _Server(web.Server):
    def __init__(self, answer: Answer, refuse: Refuse, header_bytes: int) -> None:
        super().__init__(answer)
        self._refuse = refuse
        self._header_bytes = header_bytes

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._refuse, self._header_bytes)


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
