"""Connections of browsers: their limits, and an answer of ours even to what is no request at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web
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

Refuse = Callable[[web.Request, Refusal], web.Response]


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
        super().__init__(made.request_handler, request_factory=made.request_factory, handler_cancellation=True)
        self._refuse = refuse

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._refuse)


class _Connection(web.RequestHandler):
    __slots__ = ("_refuse",)

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
