"""Whatever comes on a socket, the daemon answers it as its API does or hangs up, and goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from agentd.config import Limits
from agentd.http import blocks, bodies
from agentd.http.server import SPARE_FILES, connections_for
from benchlib.processes import PATIENCE_S, descriptors, rss_mib
from tests.daemon.harness import RealDaemon, until
from tests.http.conftest import Serve
from tests.http.talk import Api


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RealDaemon]:
    """A daemon that takes 40 connections."""
    daemon = RealDaemon(tmp_path / "data", limits={"connections": 40})
    try:
        yield daemon.start()
    finally:
        daemon.end()


def connected(daemon: RealDaemon, sent: str = "") -> socket.socket:
    place = urlsplit(daemon.agent["url"])
    opened = socket.create_connection((place.hostname, place.port), PATIENCE_S)
    opened.sendall(sent.format(token=daemon.token).encode())
    return opened


def files(daemon: RealDaemon) -> int:
    assert daemon.process is not None
    return descriptors(daemon.process.pid)


STREAM = "GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\nAuthorization: Bearer {token}\r\n\r\n"


def test_at_the_bound_those_that_ask_nothing_make_room(daemon: RealDaemon) -> None:
    before = files(daemon)
    with contextlib.ExitStack() as opened:
        streams = [opened.enter_context(connected(daemon, STREAM)) for _ in range(20)]
        assert all(stream.recv(12) == b"HTTP/1.1 200" for stream in streams)
        for _ in range(200):
            opened.enter_context(connected(daemon))
        assert daemon.request("GET", "/healthz").status == 200
        assert daemon.shell("s", "true")["state"]
        connected(daemon).close()  # those that came in one burst are counted when the next one comes
        until(lambda: files(daemon) <= before + 40 + 20, PATIENCE_S)  # and a few files of the session
    until(lambda: files(daemon) <= before + 20, PATIENCE_S)


def test_when_all_are_busy_another_is_told_to_come_back(daemon: RealDaemon) -> None:
    with contextlib.ExitStack() as opened:
        assert daemon.connection is not None
        daemon.connection.close()
        streams = [opened.enter_context(connected(daemon, STREAM)) for _ in range(40)]
        assert all(stream.recv(12) == b"HTTP/1.1 200" for stream in streams)
        answer = daemon.request("GET", "/healthz")
        assert (answer.status, answer.json["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"]
        assert answer.headers["content-type"] == "application/problem+json"
        daemon.connection.close()
    until(lambda: daemon.request("GET", "/healthz").status == 200, PATIENCE_S)


def test_connections_leave_descriptors_for_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    kept = 2 * Limits().resident_sessions + 4 * 100 + SPARE_FILES
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
        assert connections_for(Limits(), 100) == min(4096, hard) - kept
        assert connections_for(Limits(connections=7), 100) == 7
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
        assert connections_for(Limits(), 100) == 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class FewFiles(RealDaemon):
    """A daemon that may open a hundred files."""

    def command(self) -> list[str]:
        return ["sh", "-c", 'ulimit -n 100; exec "$@"', "sh", *super().command()]


def test_idle_sessions_leave_descriptors_for_others(tmp_path: Path) -> None:
    daemon = FewFiles(tmp_path / "data")
    try:
        daemon.start()
        assert [daemon.request("POST", "/sessions", {}).status for _ in range(100)] == [201] * 100
        assert daemon.wait(daemon.shell("last", "true")["task_id"])["state"] == "completed"
    finally:
        daemon.end()


def test_without_descriptors_the_log_says_so_once(daemon: RealDaemon) -> None:
    assert daemon.process is not None
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (files(daemon) + 5,) * 2)
    with contextlib.ExitStack() as opened:
        for _ in range(60):
            opened.enter_context(connected(daemon))
        until(lambda: "out of system resource" in daemon.log_text(), PATIENCE_S)
    assert daemon.request("GET", "/healthz").status == 200
    assert daemon.log_text().count("out of system resource") < 10


async def test_a_body_that_does_not_come_is_given_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await api.ask("POST", "/sessions", {"session_id": "s"})
    monkeypatch.setattr(bodies, "BODY_S", 0.05)
    monkeypatch.setattr(blocks, "SILENCE_S", 0.05)
    lead = f"Host: 127.0.0.1\r\nAuthorization: Bearer {api.token}\r\nContent-Length: 100\r\n"
    answer = await api.raw(f"POST /tasks HTTP/1.1\r\n{lead}Content-Type: application/json\r\n\r\n{{".encode())
    assert (answer.status, answer.code) == (408, "request_timeout")
    for path in ("/sessions/s/artifacts/a", "/sessions/new/import"):
        answer = await api.raw(f"PUT {path} HTTP/1.1\r\n{lead}\r\nhalf".encode())
        assert (answer.status, answer.code) == (408, "request_timeout")
    assert (await api.get("/sessions/s/artifacts"))["data"] == []


@pytest.mark.parametrize(
    ("line", "host", "status"),
    [
        ("GET http://127.0.0.1/healthz HTTP/1.1", "127.0.0.1", 200),
        ("GET http://evil.example/healthz HTTP/1.1", "127.0.0.1", 400),
        ("GET http://127.0.0.1/healthz HTTP/1.1", "evil.example", 400),
        ("GET /healthz HTTP/2.0", "127.0.0.1", 400),
        ("GET /healthz HTTP/1.0", "127.0.0.1", 200),
    ],
)
async def test_what_is_asked_is_one_host_and_one_protocol(api: Api, line: str, host: str, status: int) -> None:
    assert (await api.raw(f"{line}\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())).status == status


async def test_a_file_whose_client_vanishes_leaves_nothing(api: Api) -> None:
    await api.ask("POST", "/sessions", {"session_id": "s"})
    place = urlsplit(api.daemon.url)
    kept = api.daemon.data_dir / "sessions" / "s" / "artifacts"
    for part in (b"", b"x", b"x" * 600_000):
        _, writer = await asyncio.open_connection(place.hostname, place.port)
        head = f"PUT /sessions/s/artifacts/a HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {api.token}\r\n"
        writer.write(f"{head}Content-Length: 1000000\r\n\r\n".encode() + part)
        await writer.drain()
        async with asyncio.timeout(PATIENCE_S):
            while not (kept.is_dir() and os.listdir(kept)):  # noqa: ASYNC110 - a file rings no bell
                await asyncio.sleep(0.005)
        writer.transport.abort()
        async with asyncio.timeout(PATIENCE_S):
            while os.listdir(kept):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    assert (await api.get("/sessions/s/artifacts"))["data"] == []


async def test_readers_that_never_read_are_dropped_and_harm_no_other(serve: Serve, monkeypatch: Any) -> None:
    from agentd.http import sse

    monkeypatch.setattr(sse, "STALLED_S", 0.5)
    api = await serve(Limits(sse_buffer=100))
    place = urlsplit(api.daemon.url)
    await api.ask("POST", "/sessions", {"session_id": "s"})
    deaf: list[socket.socket] = []
    try:
        for _ in range(20):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.setblocking(False)
            await asyncio.get_running_loop().sock_connect(one, (place.hostname, place.port))
            one.send(STREAM.format(token=api.token).replace("/events", "/sessions/s/events").encode())
            deaf.append(one)
        bus = api.daemon.service.bus
        async with api.stream("/sessions/s/events") as events, asyncio.timeout(PATIENCE_S):
            told = 0
            much = {f"label{number}": "x" * 256 for number in range(60)}
            for number in range(20_000):
                await api.ask("PATCH", "/sessions/s", {"labels": {**much, "number": f"{number}"}})
                while (event := await events.next(PATIENCE_S)) is not None:
                    if event.type == "session.updated":
                        told += 1
                        break
                if number > 10 and bus.subscribers <= 1:
                    break
            assert bus.subscribers == 1
            assert told == number + 1
    finally:
        for one in deaf:
            one.close()


@pytest.mark.parametrize("many", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_readers_that_come_back_all_at_once_miss_nothing(tmp_path: Path, many: int) -> None:
    daemon = RealDaemon(tmp_path / "data").start()
    first: list[socket.socket] = []
    again: list[socket.socket] = []
    try:
        daemon.request("POST", "/sessions", {"session_id": "s"})
        stream = STREAM.replace("/events", "/sessions/s/events")
        first += (connected(daemon, stream) for _ in range(many))
        for each in first:
            assert each.recv(12) == b"HTTP/1.1 200"
        for each in first:
            each.close()
        for number in range(5):
            daemon.request("PATCH", "/sessions/s", {"title": f"t{number}"})
        last = daemon.get("/sessions/s")["seq"]
        again += (connected(daemon, stream[:-2] + "Last-Event-ID: 1\r\n\r\n") for _ in range(many))
        for each in again:
            text = b""
            while f"id: {last}\n".encode() not in text:
                more = each.recv(65_536)
                assert more, text
                text += more
            seqs = [int(line[4:]) for line in text.split(b"\n") if line.startswith(b"id: ")]
            assert seqs == [1, *range(2, last + 1)]
            each.close()
        assert daemon.stop() == 0
    finally:
        for each in (*first, *again):
            each.close()
        daemon.end()


@pytest.mark.parametrize("many", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_idle_connections_cost_little_and_hold_nobody_up(tmp_path: Path, many: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < many + 2000:
        pytest.skip(f"the system allows {hard} open files; {many + 2000} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    daemon = RealDaemon(tmp_path / "data").start()
    opened: list[socket.socket] = []
    try:
        assert daemon.process is not None
        before = rss_mib(daemon.process.pid)
        for _ in range(many):
            opened.append(connected(daemon))
        until(lambda: files(daemon) >= many, PATIENCE_S)
        task = daemon.shell("s", "echo hi")
        assert daemon.wait(task["task_id"], PATIENCE_S)["state"] == "completed"
        assert (rss_mib(daemon.process.pid) - before) * 1024 / many < 40, "KiB a connection"
        for each in opened:
            each.close()
        until(lambda: files(daemon) < 100, PATIENCE_S)
        assert daemon.stop(number=signal.SIGTERM) == 0
    finally:
        for each in opened:
            each.close()
        daemon.end()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
