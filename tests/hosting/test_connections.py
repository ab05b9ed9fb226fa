"""Connections at their bound, of the daemon and the viewer alike; and a request whose client has gone."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

import agentd.http.server
import webui.connections
from hosting.connections import SHUTDOWN_S, Server, Terms
from tests.webui.test_tls import made_pair

#: What a test waits for at most; nothing waits as long unless it fails.
PATIENCE_S = 60.0
ASKED = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
MakeRunner = Callable[[Answer], web.BaseRunner]
Place = tuple[str, int]


def daemons(answer: Answer) -> web.BaseRunner:
    return agentd.http.server.Runner(answer, lambda *why: web.Response(), header_bytes=8190, connections=2)


def viewers(answer: Answer) -> web.BaseRunner:
    app = web.Application()
    app.router.add_get("/", answer)
    return webui.connections.Runner(app, lambda *why: web.Response())


@pytest.fixture(params=[daemons, viewers])
def make_runner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MakeRunner:
    """Makes a server that takes two connections."""
    monkeypatch.setattr(webui.connections, "connections_allowed", lambda: 2)
    made: MakeRunner = request.param
    return made


@asynccontextmanager
async def listening(runner: web.BaseRunner, tls: ssl.SSLContext | None = None) -> AsyncIterator[Place]:
    """Where it listens."""
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield runner.addresses[0]
    finally:
        await runner.cleanup()


def certified(place: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Both ends of TLS."""
    certificate, key = made_pair(place, "one")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=str(certificate))
    client.check_hostname = False  # it is for localhost
    return server, client


class Slow:
    """Answers when it is over."""

    def __init__(self) -> None:
        self.asked = asyncio.Semaphore(0)
        self.over = asyncio.Event()
        self.given_up = False

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.release()
        try:
            await self.over.wait()
        except asyncio.CancelledError:
            self.given_up = True
            raise
        return web.Response()


async def test_one_that_was_asked_to_leave_is_not_in_the_way_of_the_next(make_runner: MakeRunner) -> None:
    slow = Slow()
    runner = make_runner(slow.answer)
    async with listening(runner) as place, asyncio.timeout(PATIENCE_S):
        with socket.create_connection(place) as busy, socket.create_connection(place, PATIENCE_S) as idle:
            busy.sendall(ASKED)
            await slow.asked.acquire()
            assert runner.server is not None
            took = type(runner.server())  # as for a third: the idle one leaves, in some turns of the loop
            for _ in range(20):
                assert type(runner.server()) is took
                await asyncio.sleep(0)
            assert idle.recv(1) == b""
            slow.over.set()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
async def test_when_all_are_busy_another_is_told_to_come_back(
    make_runner: MakeRunner, tmp_path: Path, secure: bool
) -> None:
    slow = Slow()
    runner = make_runner(slow.answer)
    server, client = certified(tmp_path) if secure else (None, None)
    async with listening(runner, server) as place, asyncio.timeout(PATIENCE_S):
        busy = [await asyncio.open_connection(*place, ssl=client) for _ in range(2)]
        for _, writer in busy:
            writer.write(ASKED)
            await slow.asked.acquire()
        reader, writer = await asyncio.open_connection(*place, ssl=client)
        writer.write(ASKED)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        assert lines[0] == "HTTP/1.1 503 Service Unavailable"
        assert {"Retry-After: 2", "Connection: close"} <= set(lines)
        (length,) = (int(line.partition(":")[2]) for line in lines if line.startswith("Content-Length:"))
        assert b"too many" in await reader.readexactly(length)
        slow.over.set()
        for _, each in [*busy, (reader, writer)]:
            each.transport.abort()


@pytest.mark.parametrize("forsaken", [True, False])
async def test_a_request_whose_client_has_gone_is_given_up_where_the_terms_say_so(forsaken: bool) -> None:
    slow = Slow()
    terms = Terms(
        connections=9, line_bytes=8190, header_bytes=8190, refuse=lambda request, why: web.Response(),
        farewell=web.Response(body=b""), forsaken=lambda request: forsaken,
    )  # fmt: skip
    server = Server(slow.answer, terms)
    async with listening(web.ServerRunner(server, shutdown_timeout=SHUTDOWN_S)) as place, asyncio.timeout(PATIENCE_S):
        _, writer = await asyncio.open_connection(*place)
        writer.write(ASKED)
        await slow.asked.acquire()
        (connection,) = server.connections
        writer.transport.abort()
        while connection.transport is not None:  # noqa: ASYNC110 - its end rings no bell
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert slow.given_up == forsaken
        slow.over.set()
