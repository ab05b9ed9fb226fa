"""Raw sockets against a real daemon and a real viewer: whatever comes, the next good request is answered.

No answer is 5xx, nothing hidden in a body is taken for a request, nothing is said in the log but what is refused, and
descriptors and memory are afterwards what they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from benchlib.processes import descriptors, rss_mib
from faultlib.hardly_http import HIDDEN, Case, Target, cases, mutants
from faultlib.report import Report
from tests.daemon.harness import RealDaemon
from tests.webui.viewer import RealViewer

AT_ONCE = 24
#: How long an answer that must come may take, and how long one that need not is waited for.
PATIENCE_S = 60.0
QUIET_S = 0.15
#: What a server may have more of when all is over, in MiB; it warms up first.
GROWTH_MIB = 24
MUTANTS, QUICK_MUTANTS = 20_000, 100


def run(directory: Path, quick: bool) -> Report:
    """All tricks and many mutants, against both servers."""
    daemon = RealDaemon(directory / "data", limits={"auth_failures": 10_000_000})
    viewer = RealViewer(directory / "viewer", {"one": directory / "data"})
    try:
        daemon.start()
        viewer.start()
        number = QUICK_MUTANTS if quick else MUTANTS
        fine = asyncio.run(_both(daemon, viewer, number))
        wrong = [*fine.wrong, *_said(daemon.log_text(), "daemon"), *_said(viewer.log_text(), "viewer")]
        wrong += ["the daemon ended"] * daemon.ended() + ["the viewer ended"] * viewer.ended()
        made = daemon.request("GET", f"/sessions?q={HIDDEN}").json["data"]
        wrong += [f"a request in a body was taken for one: {made}"] * bool(made)
    finally:
        viewer.end()
        daemon.end()
    return Report("sockets", f"{fine.tried:,} connections, {fine.asked:,} good requests meanwhile", wrong)


async def _both(daemon: RealDaemon, viewer: RealViewer, number: int) -> Assault:
    host = urlsplit(daemon.agent["url"]).netloc
    daemon.request("POST", "/sessions", {"session_id": "s"})
    direct = Target(host, f"Bearer {daemon.token}", "/status", "/sessions", "/sessions/s/artifacts/a")
    token = viewer.command("token", "--role", "admin").stdout.decode().strip()
    behind = "/api/agents/one"
    through = Target(
        urlsplit(viewer.url).netloc,
        f"Bearer {token}",
        "/api/agents",
        f"{behind}/sessions",
        f"{behind}/sessions/s/artifacts/b",
    )
    assert daemon.process is not None and viewer.process is not None
    assault = Assault()
    await assault.on("daemon", direct, daemon.process.pid, number, seed=1)
    await assault.on("viewer", through, viewer.process.pid, number, seed=2)
    return assault


class Assault:
    """What was sent, what came back, and what was wrong with it."""

    def __init__(self) -> None:
        self.tried = 0
        self.asked = 0
        self.wrong: list[str] = []

    async def on(self, name: str, to: Target, pid: int, number: int, seed: int) -> None:
        """Send every trick and so many mutants, while good requests are asked."""
        over = asyncio.Event()
        await self._all(name, to, mutants(to, 50, seed + 1000))  # what a server makes once, it has made by then
        files, memory = descriptors(pid), rss_mib(pid)
        asking = asyncio.create_task(self._ask(name, to, over))
        held = await self._all(name, to, [*cases(to), *mutants(to, number, seed)])
        over.set()
        await asking
        for writer in held:
            writer.transport.abort()
        if not await _so(lambda: descriptors(pid) <= files + 2):
            self.wrong.append(f"{name}: {files} descriptors before, {descriptors(pid)} after")
        if (more := rss_mib(pid) - memory) > GROWTH_MIB:
            self.wrong.append(f"{name}: {more:.0f} MiB more than before")

    async def _all(self, name: str, to: Target, every: Iterable[Case]) -> list[asyncio.StreamWriter]:
        left = iter(every)
        held: list[asyncio.StreamWriter] = []

        async def some() -> None:
            for case in left:
                self.tried += 1
                if (writer := await self._try(name, to, case)) is not None:
                    held.append(writer)

        await asyncio.gather(*(some() for _ in range(AT_ONCE)))
        return held

    async def _try(self, name: str, to: Target, case: Case) -> asyncio.StreamWriter | None:
        reader, writer = await asyncio.open_connection(*to.host.split(":"))
        found = b""
        try:
            with contextlib.suppress(ConnectionError):
                for piece in case.pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
            if case.then == "hold":
                return writer
            if case.then == "reset":
                sock: socket.socket = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):  # it was closed from there already
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if case.then == "read":
                found = await _answers(reader, must=bool(case.answer))
        finally:
            if case.then != "hold":
                writer.close()
        self._judge(name, case, found)
        return None

    def _judge(self, name: str, case: Case, found: bytes) -> None:
        statuses = [line.split()[1].decode() for line in _status_lines(found)]
        if any(status.startswith("5") for status in statuses):
            self.wrong.append(f"{name}, {case.name}: {statuses} for {b''.join(case.pieces)[:400]!r}")
        elif (
            case.answer and not (statuses and statuses[0].startswith(case.answer)) and (statuses or case.answer != "4")
        ):
            self.wrong.append(f"{name}, {case.name}: {statuses or 'no answer'}, not {case.answer}")
        elif found and not found.startswith(b"HTTP/1."):
            self.wrong.append(f"{name}, {case.name}: answered {found[:60]!r}")

    async def _ask(self, name: str, to: Target, over: asyncio.Event) -> None:
        """Good requests, one after the other, each on a connection of its own."""
        headers = {"Authorization": to.authorization}
        while not over.is_set():
            async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(PATIENCE_S)) as http:
                try:
                    async with http.get(f"http://{to.host}{to.read}") as answer:
                        await answer.read()
                        if answer.status != 200:
                            self.wrong.append(f"{name}: a good request was answered {answer.status}")
                except (aiohttp.ClientError, TimeoutError) as error:
                    self.wrong.append(f"{name}: a good request was not answered: {error!r}")
                self.asked += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), 0.05)


async def _answers(reader: asyncio.StreamReader, *, must: bool) -> bytes:
    """What comes until the server has no more to say, at most 1 MiB of it."""
    found = b""
    while len(found) < 1 << 20:
        try:
            more = await asyncio.wait_for(reader.read(65_536), PATIENCE_S if must and not found else QUIET_S)
        except (TimeoutError, ConnectionError):
            break
        if not more:
            break
        found += more
    return found


def _status_lines(found: bytes) -> list[bytes]:
    return [line for line in found.split(b"\r\n") if line.startswith(b"HTTP/1.") and len(line.split()) > 1]


async def _so(condition: object) -> bool:
    assert callable(condition)
    for _ in range(3000):
        if condition():
            return True
        await asyncio.sleep(0.02)
    return False


def _said(log: str, name: str) -> list[str]:
    return [f"{name}: {line[:400]}" for line in log.splitlines() if "Traceback" in line or '"level":"error"' in line]
