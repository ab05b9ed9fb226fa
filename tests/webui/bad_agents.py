"""An agent that is as bad as a test wants, and from one moment to the next: what it says, and how it says nothing."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .viewer import token_flags

Query = dict[str, list[str]]
Handler = Callable[["BadAgent", asyncio.StreamWriter, str, Query], Coroutine[Any, Any, None]]

HELLO = b'id: b-0\nevent: hello\ndata: {"seq": 0, "boot_id": "b"}\n\n'


class BadAgent:
    """Serves `sessions` and `running` as agentd does while `mode` is good, else as MODES says. A context manager.

    Args:
        sessions: how many it has at first, all idle; the younger have the higher numbers.
    """

    def __init__(self, name: str, sessions: int = 0, running: int = 0) -> None:
        self.name = name
        self.mode = "good"
        self.stream_mode = "good"
        self.running = running
        self.token = f"token-of-{name}"
        self.sessions = {f"{name}-{number}": session(f"{name}-{number}", number) for number in range(sessions)}
        self.requests: list[str] = []
        self.streams: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> BadAgent:
        self._thread.start()
        self._begun.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def flags(self, place: Path) -> tuple[str, ...]:
        """Flags that give a viewer its token."""
        return token_flags(place, self.name, self.token)

    def mode_for(self, path: str) -> str:
        """The mode that a request meets."""
        if path == "/events" and self.mode in ("good", "odd_types", "odd_words", "off_clock"):
            return f"stream_{self.stream_mode}"
        return self.mode

    def tell(self, kind: str, **facts: object) -> None:
        """Send an event on all streams."""
        block = f"event: {kind}\ndata: {json.dumps({'type': kind, **facts})}\n\n".encode()
        self._loop.call_soon_threadsafe(self._write, block)

    def cut(self) -> None:
        """Close all streams."""
        self._loop.call_soon_threadsafe(self._close)

    def _write(self, block: bytes) -> None:
        for writer in self.streams:
            writer.write(block)

    def _close(self) -> None:
        for writer in self.streams:
            writer.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port: int = server.sockets[0].getsockname()[1]
        self._begun.set()
        await self._stop.wait()
        for listening in server.sockets:
            self._loop.remove_reader(listening.fileno())  # a server that is closed forgets what it has just accepted
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            for writer in self._writers:
                writer.transport.abort()  # also of those whose task has yet to run
            for task in self._connections:
                task.cancel()
            await asyncio.wait(left)
        server.close()
        await asyncio.sleep(0)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.create_task(self._answer(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            try:
                first = await reader.readexactly(1)
                if first == b"\x16":  # TLS: answered as any HTTP server does
                    writer.write(http({}, "400 Bad Request"))
                    return
                head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                target = urlsplit(head.split(" ", 2)[1])
                self.requests.append(target.path)
                handler = MODES[self.mode_for(target.path)]
                answer = asyncio.create_task(handler(self, writer, target.path, parse_qs(target.query)))
                left = asyncio.create_task(reader.read(1))
                try:
                    await asyncio.wait({answer, left}, return_when=asyncio.FIRST_COMPLETED)
                    await writer.drain()
                finally:
                    answer.cancel()
                    left.cancel()
                    await asyncio.gather(answer, left, return_exceptions=True)
            finally:
                self.streams.discard(writer)
                self._writers.discard(writer)
                writer.close()
                await writer.wait_closed()


def session(session_id: str, number: int, **fields: object) -> dict[str, Any]:
    """A session as agentd has it, of the second `number`."""
    at = f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}.000000Z"
    found = {"session_id": session_id, "title": None, "labels": {}, "state": "idle", "counts": {"completed": 1}}
    return {**found, "created_at": at, "updated_at": at, "seq": 1, **fields}


def page_of(rows: list[dict[str, Any]], query: Query) -> dict[str, Any]:
    """A keyset page as agentd makes it."""
    sort = query.get("sort", ["-updated_at"])[0]
    limit = int(query.get("limit", ["100"])[0])
    field, descends = sort.removeprefix("-"), sort.startswith("-")
    ordered = sorted(rows, key=lambda row: (row[field], row["session_id"]), reverse=descends)
    if "cursor" in query:
        last = tuple(json.loads(base64.urlsafe_b64decode(query["cursor"][0])))
        keyed = [((row[field], row["session_id"]), row) for row in ordered]
        ordered = [row for key, row in keyed if (key < last if descends else key > last)]
    page = ordered[:limit]
    key = json.dumps([page[-1][field], page[-1]["session_id"]]) if len(ordered) > limit else None
    return {"data": page, "next": base64.urlsafe_b64encode(key.encode()).decode() if key else None}


def good(agent: BadAgent, path: str, query: Query) -> Any:
    """What a good agent says; None where it has no such route."""
    if path == "/sessions":
        return page_of(list(agent.sessions.values()), query)
    if path == "/status":
        current = [{"task_id": f"{agent.name}{n}", "state": "running"} for n in range(agent.running)]
        queue = {"depth": 0, "waiting": 0}
        state = "working" if agent.running else "idle"
        return {"agent_id": agent.name, "version": "0.1.0", "state": state, "current": current, "queue": queue}
    return {"status": "ok"} if path == "/healthz" else None


def http(value: Any, status: str = "200 OK", *headers: str, kind: str = "application/json") -> bytes:
    """A whole answer."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close"]
    if not any(header.startswith("Date:") for header in headers):
        lines.append(f"Date: {formatdate(usegmt=True)}")
    return "\r\n".join([*lines, "Agentd-Role: admin", *headers, "", ""]).encode() + body


def says(make: Callable[[BadAgent, str, Query], bytes]) -> Handler:
    """A mode that answers bytes at once."""

    async def answer(agent: BadAgent, writer: asyncio.StreamWriter, path: str, query: Query) -> None:
        writer.write(make(agent, path, query))

    return answer


def always(answer: bytes) -> Handler:
    """A mode that answers the same to everything."""
    return says(lambda *_: answer)


def _good(agent: BadAgent, path: str, query: Query, *headers: str) -> bytes:
    value = good(agent, path, query)
    missing = {"code": "route_not_found", "status": 404, "detail": "no such route"}
    return http(missing, "404 Not Found", *headers) if value is None else http(value, "200 OK", *headers)


def _off_clock(agent: BadAgent, path: str, query: Query) -> bytes:
    return _good(agent, path, query, f"Date: {formatdate(time.time() + 3 * 3600, usegmt=True)}")


def _odd_types(agent: BadAgent, path: str, query: Query) -> bytes:
    if path == "/status":
        odd = {"current": {"a": 1}, "queue": [3], "version": [], "disk": 7, "workers": "many", "started_at": 1e300}
        return http({"agent_id": "x", "state": "idle", **odd})
    deep: Any = "bottom"
    for _ in range(400):
        deep = {"down": [deep]}
    odd = {"title": {"a": ["b"]}, "labels": [1, 2], "state": {"x": 1}, "counts": "three", "updated_at": 12, "new": deep}
    odd |= {"created_at": ["yesterday"], "reason": 1.5, "agent": "good", "policy": 10**30}
    return http({"data": [{"session_id": "odd", **odd}], "next": {"page": 2}})


def _odd_words(agent: BadAgent, path: str, query: Query) -> bytes:
    if path == "/status":
        return http({"agent_id": "x", "state": "dreaming", "current": [], "queue": {}, "moon": "full"})
    row = session("of-the-future", 1, state="hibernating", counts={"paused": 3}, colour="blue", title="<b>bold</b>")
    return http({"data": [row], "next": None, "hint": "more"})


async def _silent(agent: BadAgent, writer: asyncio.StreamWriter, path: str, query: Query) -> None:
    """As an agent that is stopped: when it goes on, it answers what was asked meanwhile."""
    while agent.mode == "silent":  # noqa: ASYNC110 - another thread sets it
        await asyncio.sleep(0.02)
    await MODES[agent.mode_for(path)](agent, writer, path, query)


async def _late(agent: BadAgent, writer: asyncio.StreamWriter, path: str, query: Query) -> None:
    """Good, and slower than a page waits."""
    await asyncio.sleep(0.8)
    await MODES["stream_good" if path == "/events" else "good"](agent, writer, path, query)


async def _closes(*_: Any) -> None:
    return


async def _huge(agent: BadAgent, writer: asyncio.StreamWriter, *_: Any) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10737418240\r\n\r\n[")
    while True:
        writer.write(b"1," * 500_000)
        await writer.drain()


async def _endless(agent: BadAgent, writer: asyncio.StreamWriter, *_: Any) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"f4240\r\n" + b"1," * 500_000 + b"\r\n")
        await writer.drain()


async def _drip(agent: BadAgent, writer: asyncio.StreamWriter, *_: Any) -> None:
    for byte in http({"data": [], "next": None}):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


def streams(*blocks: bytes, again: bytes = b"", ends: bool = False) -> Handler:
    """A stream that begins with these, goes on with the one for ever, or ends."""

    async def stream(agent: BadAgent, writer: asyncio.StreamWriter, *_: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for block in blocks:
            writer.write(block)
        agent.streams.add(writer)
        while again:
            writer.write(again)
            await writer.drain()
        if not ends:
            await asyncio.Event().wait()

    return stream


_PROBLEM = {"title": "no", "detail": "it went wrong", "code": "internal"}
_MOVED = ("302 Found", "Location: http://127.0.0.1:1/elsewhere")
_REJECTED = {"code": "unauthorized", "status": 401, "detail": "unknown token"}
_FORBIDDEN = {"code": "forbidden", "status": 403, "detail": "this token may not"}
_UNKNOWN_ROUTE = {"code": "route_not_found", "status": 404, "detail": "no such route"}
_DRAINING = {"code": "unavailable", "status": 503, "detail": "it is stopping"}

MODES: dict[str, Handler] = {
    "good": says(_good),
    "error_500": always(http(_PROBLEM, "500 Internal Server Error")),
    "html_502": always(http(b"<h1>Bad gateway</h1>", "502 Bad Gateway", kind="text/html")),
    "html": always(http(b"<!doctype html><h1>Welcome to nginx</h1>", kind="text/html")),
    "half_json": always(http(b'{"data": [{"session_id": "a", "sta')),
    "not_utf8": always(http(b'{"data": ["\xff\xfe"], "next": null}')),
    "too_deep": always(http(b"[" * 100_000)),
    "other_schema": always(http({"items": [1, 2], "total": 2})),
    "a_list": always(http([1, 2, 3])),
    "rows_without_id": always(http({"data": [{"name": "x"}], "next": None})),
    "redirect": always(http({}, *_MOVED)),
    "silent": _silent,
    "huge": _huge,
    "endless": _endless,
    "drip": _drip,
    "late": _late,
    "closes": _closes,
    "cut_off": always(http({"data": [], "next": None})[:-5]),
    "not_http": always(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "tls_alert": always(bytes.fromhex("15030100020246")),
    "endless_head": always(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n"),
    "token_rejected": always(http(_REJECTED, "401 Unauthorized")),
    "html_401": always(http(b"<h1>Log in</h1>", "401 Unauthorized", kind="text/html")),
    "forbidden": always(http(_FORBIDDEN, "403 Forbidden")),
    "no_such_route": always(http(_UNKNOWN_ROUTE, "404 Not Found")),
    "draining": always(http(_DRAINING, "503 Service Unavailable")),
    "odd_types": says(_odd_types),
    "odd_words": says(_odd_words),
    "off_clock": says(_off_clock),
    "stream_good": streams(HELLO),
    "stream_refused": _closes,
    "stream_garbage": streams(b"\x00\xff{not an event}\n\n", b"data: 1\n\n"),
    "stream_never": streams(),
    "stream_endless_line": streams(HELLO, b"data: ", again=b"x" * 65_536),
    "stream_flood": streams(HELLO, again=b'event: task.started\ndata: {"session_id": "a", "task_id": "b"}\n\n' * 100),
    "stream_closes": streams(HELLO, ends=True),
    "stream_bad_ids": streams(b"id: \xc3\xa9\x00\nevent: hello\ndata: {}\n\n", ends=True),
}
