"""How tests talk to a daemon: requests, raw bytes on a socket, and event streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from agentd.daemon import Daemon
from benchlib.processes import PATIENCE_S


async def until(condition: Callable[[], bool | Awaitable[bool]], within_s: float = PATIENCE_S) -> None:
    """Wait for what rings no bell."""
    async with asyncio.timeout(within_s):
        for _ in range(100_000):
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.005)


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a problem, checked for its form."""
        assert self.headers["Content-Type"] == "application/problem+json"
        problem = self.json
        assert problem["status"] == self.status
        assert problem["type"] == f"urn:agentd:error:{problem['code']}"
        assert problem["title"]
        assert problem["detail"]
        assert problem["request_id"] == self.headers["X-Request-Id"]
        return str(problem["code"])

    @property
    def fields(self) -> dict[str, str]:
        """The fields that a problem names."""
        return {each["field"]: each["message"] for each in self.json.get("errors", [])}


class Event(NamedTuple):
    """One event of a stream."""

    id: str | None
    type: str
    text: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Stream:
    """An open event stream."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.comments = 0

    async def next(self, within_s: float = PATIENCE_S) -> Event | None:
        """The next event; None when the stream has ended."""
        fields: dict[bytes, bytes] = {}
        async with asyncio.timeout(within_s):
            while True:
                line = (await self.answer.content.readline()).rstrip(b"\n")
                if line.startswith(b":"):
                    self.comments += 1
                elif line:
                    name, _, value = line.partition(b": ")
                    fields[name] = value
                elif b"event" in fields:
                    given = fields.get(b"id")
                    return Event(
                        given.decode() if given is not None else None, fields[b"event"].decode(), fields[b"data"]
                    )
                elif self.answer.content.at_eof():
                    return None

    async def until(self, event_type: str) -> list[Event]:
        """The events up to and with one of a type."""
        found: list[Event] = []
        while (event := await self.next()) is not None:
            found.append(event)
            if event.type == event_type:
                return found
        raise AssertionError(f"the stream ended without {event_type}: {found}")

    async def rest(self) -> list[Event]:
        """The events up to the end of the stream."""
        found: list[Event] = []
        while (event := await self.next()) is not None:
            found.append(event)
        return found


class Api:
    """One daemon's API, with its first token."""

    def __init__(self, daemon: Daemon, session: aiohttp.ClientSession, token: str) -> None:
        self.daemon = daemon
        self.token = token
        self.stopped = False
        self._http = session

    async def close(self) -> None:
        await self._http.close()

    async def stop(self) -> None:
        self.stopped = True
        await self.daemon.stop()

    def _headers(self, token: str | None, headers: dict[str, str] | None) -> dict[str, str]:
        given = {"Authorization": f"Bearer {self.token if token is None else token}"}
        return {name: value for name, value in {**given, **(headers or {})}.items() if value}

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One exchange; a body that is not bytes goes as JSON."""
        given = self._headers(token, headers)
        data = body
        if body is not None and not isinstance(body, bytes) and not hasattr(body, "__aiter__"):
            data = json.dumps(body).encode()
        if data is not None:
            given.setdefault("Content-Type", "application/json")
        url = URL(self.daemon.url + path, encoded=True)
        async with self._http.request(method, url, data=data, headers=given, allow_redirects=False) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def get(self, path: str, **headers: str) -> Any:
        """The JSON of a GET that succeeds."""
        answer = await self.ask("GET", path, headers={name.replace("_", "-"): v for name, v in headers.items()})
        assert answer.status == 200, answer
        return answer.json

    async def run(self, command: str, **more: Any) -> Any:
        """A shell task, run to its end."""
        answer = await self.ask("POST", "/tasks/shell", {"command": command, **more})
        assert answer.status == 201, answer
        return await self.get(f"/tasks/{answer.json['task_id']}/wait?timeout_s=60")

    async def start(self, command: str, **more: Any) -> Any:
        """A shell task that runs."""
        answer = await self.ask("POST", "/tasks/shell", {"command": command, **more})
        assert answer.status == 201, answer
        async with self.stream(f"/sessions/{answer.json['session_id']}/events") as events:
            while (event := await events.next()) is not None:
                if event.type == "task.started" and event.json["task_id"] == answer.json["task_id"]:
                    break
        return await self.get(f"/tasks/{answer.json['task_id']}")

    @asynccontextmanager
    async def stream(self, path: str, *, token: str | None = None, last_id: str | None = None) -> AsyncIterator[Stream]:
        """An event stream."""
        headers = {"Accept": "text/event-stream"}
        if last_id is not None:
            headers["Last-Event-ID"] = last_id
        async with self._http.get(path, headers=self._headers(token, headers)) as answer:
            assert answer.status == 200, await answer.read()
            assert answer.headers["Content-Type"] == "text/event-stream"
            yield Stream(answer)

    async def until_status(self, status: int, token: str) -> None:
        """Ask until a token is answered so: the daemon reads the file of tokens again within a second."""

        async def is_so() -> bool:
            return (await self.ask("GET", "/status", token=token)).status == status

        await until(is_so)

    async def raw(self, request: bytes) -> Answer:
        """What comes back on a socket for these bytes, until the daemon closes it."""
        place = urlsplit(self.daemon.url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        try:
            writer.write(request)
            async with asyncio.timeout(PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode().split("\r\n")
                headers: CIMultiDict[str] = CIMultiDict()
                for line in filter(None, lines[1:]):
                    name, _, value = line.partition(": ")
                    headers.add(name, value)
                body = await reader.readexactly(int(headers["Content-Length"]))
        finally:
            writer.close()
            await writer.wait_closed()
        return Answer(int(lines[0].split()[1]), headers, body)
