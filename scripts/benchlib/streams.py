"""How soon a change is on an event stream: of one subscriber, and of a thousand."""

from __future__ import annotations

import asyncio
import multiprocessing
import re
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import urlsplit

from benchlib.daemon import Client, Daemon
from benchlib.figures import Row, median, ms, percentile
from benchlib.processes import rss_mib

TITLE = re.compile(rb'"title":"change (\d+)"')


def streams(directory: Path, many: int, changes: int) -> list[Row]:
    """A session's title is changed at no fixed pace; each subscriber says when it had the event."""
    with Daemon(directory / "streams", limits_sse_clients=many + 10) as daemon, daemon.client() as client:
        client.session("watched")
        for number in range(20):
            _change(client, -number - 1)
        alone, _ = _delays(daemon, client, 1, changes * 4)
        idle = rss_mib(daemon.pid)
        crowd, during = _delays(daemon, client, many, changes)
        again, after = _delays(daemon, client, many, changes)
    missed = len(crowd) - sum(delay is not None for delay in crowd)
    one, all_of_them = ([delay for delay in found if delay is not None] for found in (alone, [*crowd, *again]))
    late = percentile(all_of_them, 99)
    return [
        Row("a change until its event is at a subscriber, p50 / p99", f"{ms(median(one))} / {ms(percentile(one, 99))}",
            "p99 ≤ 20 ms", percentile(one, 99) <= 0.02),
        Row(f"the same with {many:,} subscribers, at all of them",
            f"{ms(median(all_of_them))} / {ms(late)}" + (f", {missed} missed" if missed else ""), "p99 ≤ 250 ms",
            late <= 0.25 and not missed),
        Row("their memory in the daemon, each; and more after the second thousand came and went",
            f"{(during - idle) * 1024 / many:.0f} KiB; {max(0.0, after - during):.1f} MiB", "≤ 5 MiB more",
            after - during <= 5),
    ]  # fmt: skip


def _change(client: Client, number: int) -> float:
    """From just before the request, by the clock that all processes share."""
    at = monotonic()
    client.call("PATCH", "/sessions/watched", {"title": f"change {number}"})
    return at


def _delays(daemon: Daemon, client: Client, many: int, changes: int) -> tuple[list[float | None], float]:
    """How long each change took to each subscriber, None where it never came; the daemon's memory meanwhile."""
    ours, theirs = multiprocessing.Pipe()
    readers = multiprocessing.Process(target=_read, args=(*daemon.address(), many, changes, theirs))
    readers.start()
    try:
        if ours.recv() != "ready":
            raise RuntimeError("the subscribers did not come in")
        sent = []
        for number in range(changes):
            sleep(0.1 + (number * 37 % 100) / 1000)
            sent.append(_change(client, number))
        memory = rss_mib(daemon.pid)
        seen: Sequence[dict[int, float]] = ours.recv()
    finally:
        readers.join(30)
        readers.kill()
    return [each[n] - sent[n] if n in each else None for each in seen for n in range(changes)], memory


def _read(url: str, token: str, many: int, changes: int, pipe: Connection) -> None:
    asyncio.run(_subscribed(url, token, many, changes, pipe))


async def _subscribed(url: str, token: str, many: int, changes: int, pipe: Connection) -> None:
    where = urlsplit(url)
    lines = ("GET /events HTTP/1.1", f"Host: {where.netloc}", f"Authorization: Bearer {token}",
             "Accept: text/event-stream", "", "")  # fmt: skip
    readers = []
    for _ in range(many):
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write("\r\n".join(lines).encode())
        await reader.readuntil(b"event: hello")
        readers.append((reader, writer))
    pipe.send("ready")
    pipe.send(await asyncio.gather(*(_noted(reader, changes) for reader, _ in readers)))
    for _, writer in readers:
        writer.close()


async def _noted(reader: asyncio.StreamReader, changes: int) -> dict[int, float]:
    """When the event of each change came; it ends with the last."""
    seen: dict[int, float] = {}
    with suppress(TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        async with asyncio.timeout(60 + changes):
            while changes - 1 not in seen:
                line = await reader.readline()
                if not line:
                    break
                if found := TITLE.search(line):
                    seen.setdefault(int(found[1]), monotonic())
    return seen
