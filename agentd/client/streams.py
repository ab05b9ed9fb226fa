"""Server-sent events: parsed, and resumed where they broke off."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Any

from agentd.client.transport import CHUNK_BYTES, Params, Transport, decoded
from agentd.errors import AgentdError, Unreachable
from agentd.model.task import Task, Value

OnLost = Callable[[Unreachable], None]

#: Silence after which a stream counts as lost; the daemon sends a comment every `http.heartbeat_s` (10 s).
SILENCE_S = 30.0
#: How long a lost stream is tried again before `Unreachable` is raised.
PATIENCE_S = 30.0
PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
#: Of one event; the largest hold a task with its spec, or a block of output.
MAX_EVENT_BYTES = 16 << 20


class ServerEvent(Value, frozen=True, kw_only=True):
    """One event as it was sent: `hello` first on every connect, `gap` where some can no longer be told."""

    id: str | None
    type: str
    data: bytes

    def json(self) -> dict[str, Any]:
        """What `data` says."""
        return decoded(dict[str, Any], self.data, f"event {self.type}")


class OutputChunk(Value, frozen=True, kw_only=True):
    """Bytes of a task's output, in the order of their arrival; `stream` is `out` or `err`, None where unknown."""

    attempt: int
    offset: int
    stream: str | None
    data: bytes


async def parsed(blocks: AsyncIterator[bytes]) -> AsyncGenerator[ServerEvent, None]:
    """The events in a text/event-stream (WHATWG HTML, 9.2.6), comments left out.

    Raises:
        AgentdError: one is over MAX_EVENT_BYTES.
    """
    rest = bytearray()
    event_id: str | None = None
    kind = ""
    data: list[bytes] = []
    size = 0
    async for block in blocks:
        start = len(rest)
        rest += block
        begin = 0
        while (end := rest.find(b"\n", max(begin, start))) >= 0:
            line = bytes(rest[begin:end]).removesuffix(b"\r")
            begin = end + 1
            if not line:
                if data:
                    yield ServerEvent(id=event_id, type=kind or "message", data=b"\n".join(data))
                kind, data, size = "", [], 0
                continue
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                data.append(value)
                size += len(line)
            elif name == b"event":
                kind = value.decode("utf-8", "replace")
            elif name == b"id":
                event_id = value.decode("utf-8", "replace")
        del rest[:begin]
        if size + len(rest) > MAX_EVENT_BYTES:
            raise AgentdError(f"an event is larger than {MAX_EVENT_BYTES} bytes")


class Resumed:
    """A stream that is asked for again, from where it was, when its connection is lost.

    Args:
        transport: the daemon.
        path: what is streamed.
        params: the query of the first connect; after it, the Last-Event-ID counts.
        last_id: the cursor to start from, if there is one.
        patience_s: how long to try again before giving up; 0 never tries again.
        on_lost: told once each time the stream is lost.
    """

    def __init__(
        self,
        transport: Transport,
        path: str,
        params: Params = (),
        *,
        last_id: str | None = None,
        patience_s: float = PATIENCE_S,
        on_lost: OnLost | None = None,
    ) -> None:
        self._transport = transport
        self._path = path
        self._params = params
        self._last_id = last_id
        self._patience_s = patience_s
        self._on_lost = on_lost

    async def events(self) -> AsyncGenerator[ServerEvent, None]:
        """All events; ends only when the caller does.

        Raises:
            Unreachable: it was lost for longer than the patience.
        """
        loop = asyncio.get_running_loop()
        tries = 0
        lost_at: float | None = None
        while True:
            error: Unreachable
            try:
                async with aclosing(self._connected()) as events:
                    async for event in events:
                        tries, lost_at = 0, None
                        self._last_id = event.id or self._last_id  # that of `hello` says where the stream begins
                        yield event
                error = Unreachable(f"{self._transport.endpoint.url} closed the stream")
            except Unreachable as caught:
                error = caught
            if lost_at is None:
                lost_at = loop.time()
                if self._on_lost is not None and self._patience_s > 0:
                    self._on_lost(error)
            if loop.time() - lost_at >= self._patience_s:
                raise error
            await asyncio.sleep(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
            tries += 1
            with suppress(Unreachable):  # none yet: the connect fails as well, until patience ends
                await self._transport.find_again()

    async def _connected(self) -> AsyncGenerator[ServerEvent, None]:
        headers = {"Accept": "text/event-stream"}
        if self._last_id is not None:
            headers["Last-Event-ID"] = self._last_id
        async with (
            self._transport.exchange(
                "GET", self._path, params=self._params, headers=headers, read_s=SILENCE_S
            ) as answer,
            aclosing(parsed(answer.content.iter_chunked(CHUNK_BYTES))) as events,
        ):
            async for event in events:
                yield event


class EventsPage(Value, frozen=True, kw_only=True):
    """One page of a session's events; `next` is the seq to ask after, `gap` the first one kept if some were pruned."""

    data: tuple[dict[str, Any], ...]
    next: int | None = None
    gap: int | None = None
    seq: int  #: the session's latest


class _Output(Value, frozen=True, kw_only=True):
    offset: int
    attempt: int = 0
    stream: str | None = None
    text: str | None = None
    base64: str | None = None


class _End(Value, frozen=True, kw_only=True):
    task: Task


def output_chunk(event: ServerEvent) -> OutputChunk:
    """The bytes that an `output` event carries: as text, or in base 64 where they are not UTF-8."""
    output = decoded(_Output, event.data, "event output")
    try:
        data = base64.b64decode(output.base64) if output.base64 is not None else (output.text or "").encode()
    except ValueError as error:
        raise AgentdError(f"cannot read event output: {error}") from error
    return OutputChunk(attempt=output.attempt, offset=output.offset, stream=output.stream, data=data)


def ended_task(event: ServerEvent) -> Task:
    """The task that an `end` event carries."""
    return decoded(_End, event.data, "event end").task
