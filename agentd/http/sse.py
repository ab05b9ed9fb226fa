"""Server-sent events (WHATWG HTML §9.2): the frames, and one answer that is sent as they come."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import hdrs, web

from agentd.bus import SlowReader
from agentd.errors import Unauthorized
from agentd.http import answers
from agentd.http.routing import Call
from agentd.http.server import ONLY_SENDS

MEDIA_TYPE = "text/event-stream"
#: A reader that takes nothing for so long is disconnected.
STALLED_S = 10.0
#: What a reader is told to wait before it connects again.
RETRY_MS = 1000

_HEARTBEAT = b": \n\n"


class EventStream:
    """One answer of events. Use as an async context manager; at its end the answer is complete or cut off.

    It is cut off, too, before the first word that its reader's token no longer allows.
    """

    def __init__(self, call: Call, heartbeat_s: float) -> None:
        self.heartbeat_s = heartbeat_s
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._response = web.StreamResponse(headers=answers.headers(call, MEDIA_TYPE, X_Accel_Buffering="no"))
        self._sent_at = self._loop.time()

    @property
    def response(self) -> web.StreamResponse:
        """What the handler answers."""
        return self._response

    async def __aenter__(self) -> Self:
        self._call.streaming = self._response
        self._call.request[ONLY_SENDS] = True
        await self._response.prepare(self._call.request)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            await self._response.write_eof()
            return False
        self._response.force_close()
        if self._call.request.transport is not None:
            self._call.request.transport.abort()
        return isinstance(error, ConnectionError | SlowReader | TimeoutError | Unauthorized)

    async def hello(self, position: str | None, **facts: Any) -> None:
        """The first event on every connect; `position` is where the reader stands."""
        head = f"retry: {RETRY_MS}\n".encode()
        await self._write(head + frame("hello", msgspec.json.encode(facts), position))

    async def send(self, event: str, data: bytes, position: str | None = None) -> None:
        """One event.

        Raises:
            ConnectionError: the reader has gone.
            TimeoutError: it reads nothing.
        """
        await self._write(frame(event, data, position))

    async def send_line(self, line: bytes, position: str | None) -> None:
        """An event as the journal has it, byte for byte."""
        await self._write(frame(type_in(line), line.rstrip(b"\n"), position))

    @property
    def quiet_s(self) -> float:
        """Seconds until a heartbeat is due."""
        return max(0.0, self._sent_at + self.heartbeat_s - self._loop.time())

    async def beat(self) -> None:
        """A comment, if nothing else was sent for as long as the heartbeat takes; shows both sides that all is well."""
        if self.quiet_s <= 0:
            await self._write(_HEARTBEAT)

    async def _write(self, data: bytes) -> None:
        self._sent_at = self._loop.time()
        transport = self._call.request.transport
        if transport is None or not self._call.connected:
            raise ConnectionResetError("the reader has gone")
        self._call.check_admitted()
        if transport.get_write_buffer_size() == 0:
            await self._response.write(data)
            return
        async with asyncio.timeout(STALLED_S):
            await self._response.write(data)


def frame(event: str, data: bytes, position: str | None) -> bytes:
    """One event as it is sent; `data` has no line feed."""
    head = b"" if position is None else f"id: {position}\n".encode()
    return b"%sevent: %s\ndata: %s\n\n" % (head, event.encode(), data)


def type_in(line: bytes) -> str:
    """The event's type in a journal line. What may stand before it, seq and ids, holds no quotation marks."""
    start = line.index(b'"type":"') + 8
    return line[start : line.index(b'"', start)].decode()


def seq_in(line: bytes) -> int:
    """The event's number in a journal line, which it begins with."""
    return int(line[len(b'{"seq":') : line.index(b",")])


def wanted(call: Call) -> bool:
    """Whether the client asks for a stream."""
    return MEDIA_TYPE in call.request.headers.get(hdrs.ACCEPT, "")


def last_event_id(call: Call) -> str | None:
    """What a reader that comes back has seen."""
    return call.request.headers.get("Last-Event-ID") or None
