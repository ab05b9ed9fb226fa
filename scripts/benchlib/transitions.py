"""Durable transitions a second: the store's own, and through HTTP, against what the disk syncs for 64 threads."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event as Flag
from time import perf_counter

import aiohttp

from agentd.clock import rfc3339
from agentd.config import Limits
from agentd.model.events import Event, SessionCreated
from agentd.model.session import Session
from agentd.store.datadir import prepare
from agentd.store.disk import RealDisk
from agentd.store.ledger import Ledger
from agentd.store.store import Store
from benchlib.daemon import Daemon
from benchlib.figures import Row, median
from benchlib.fill import BEGAN, life

THREADS = 64
#: Tasks of one session that go on at the same time.
SIDE_BY_SIDE = 4
#: About as long as a line of a journal.
LINE = b"x" * 255 + b"\n"
BATCH = 1000


def transitions(directory: Path, sessions: int, seconds: float, rounds: int) -> list[Row]:
    """By turns: the disk alone, the store in this process, a daemon over HTTP."""
    raw, store, over_http = [], [], []
    with Daemon(directory / "transitions-http", workers_queues="none", limits_connections=2000) as daemon:
        for number in range(rounds):
            before = synced_per_second(directory, seconds)
            store.append(asyncio.run(stored_per_second(directory / f"transitions-{number}", sessions, 10, seconds)))
            raw.append((before + synced_per_second(directory, seconds)) / 2)
            over_http.append(asyncio.run(_posted_per_second(daemon, f"round-{number}", sessions, seconds)))
    share = median([ours / theirs for ours, theirs in zip(store, raw, strict=True)])
    return [
        Row(f"durable transitions, {sessions} sessions of {SIDE_BY_SIDE} tasks at a time, the store alone",
            f"{median(store):,.0f}/s = {share:.0%} of {THREADS} threads that append and fdatasync "
            f"({median(raw):,.0f}/s)",
            "≥ 70 %", share >= 0.7),
        Row(f"the same as submits over HTTP, {sessions} connections", f"{median(over_http):,.0f}/s", "", True),
    ]  # fmt: skip


def synced_per_second(directory: Path, seconds: float) -> float:
    """How many appends of a line, each with its fdatasync, 64 threads do on a file each."""
    stop = Flag()

    def appending(number: int) -> int:
        fd = os.open(directory / f"raw-{number}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        done = 0
        try:
            while not stop.is_set():
                os.write(fd, LINE)
                os.fdatasync(fd)
                done += 1
        finally:
            os.close(fd)
            os.unlink(directory / f"raw-{number}")
        return done

    with ThreadPoolExecutor(THREADS) as threads:
        began = perf_counter()
        counts = [threads.submit(appending, number) for number in range(THREADS)]
        stop.wait(seconds)
        stop.set()
        return sum(count.result() for count in counts) / (perf_counter() - began)


async def stored_per_second(data_dir: Path, sessions: int, tasks: int, seconds: float) -> float:
    """Transitions that the store makes durable: tasks are created, started and finished, each step awaited.

    Every session holds so many more tasks that are queued.
    """
    disk = RealDisk()
    prepare(disk, str(data_dir))
    store = Store(data_dir, disk=disk, limits=Limits())
    await store.open()
    try:
        ledgers = [await _session(store, f"bench-{number:03}", tasks) for number in range(sessions)]
        for ledger in ledgers:
            await ledger.views.flush()
        stop = asyncio.Event()
        began = perf_counter()
        going = [asyncio.create_task(_lives(ledger, stop)) for ledger in ledgers for _ in range(SIDE_BY_SIDE)]
        await asyncio.sleep(seconds)
        stop.set()
        return sum(await asyncio.gather(*going)) / (perf_counter() - began)
    finally:
        await store.close()
        shutil.rmtree(data_dir)


async def _session(store: Store, session_id: str, tasks: int) -> Ledger:
    at = rfc3339(BEGAN)
    session = Session(session_id=session_id, created_at=at, updated_at=at)
    ledger = await store.create(session, [SessionCreated(at=at, session=session)])
    created: list[Event] = [next(life(session_id, number)) for number in range(tasks)]
    for begin in range(0, tasks, BATCH):
        await ledger.stage(created[begin : begin + BATCH])
    return ledger


async def _lives(ledger: Ledger, stop: asyncio.Event) -> int:
    done = 0
    while not stop.is_set():
        for event in _steps(ledger.session.session_id):
            await ledger.stage([event])
            done += 1
    return done


def _steps(session_id: str) -> Iterator[Event]:
    return life(session_id, 0)


async def _posted_per_second(daemon: Daemon, prefix: str, count: int, seconds: float) -> float:
    """Submits a second of so many clients, each to a session of its own; nothing runs."""
    with daemon.client() as client:
        sessions = [client.session(f"{prefix}-{number}") for number in range(count)]
    url, token = daemon.address()
    headers = {"Authorization": f"Bearer {token}"}
    stop = asyncio.Event()
    body = {"spec": {"argv": ["true"]}}

    async def posting(http: aiohttp.ClientSession, session_id: str) -> int:
        done = 0
        while not stop.is_set():
            async with http.post(f"{url}/sessions/{session_id}/task", json=body) as answer:
                answer.raise_for_status()
                await answer.read()
            done += 1
        return done

    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=count)) as http:
        began = perf_counter()
        clients = [asyncio.create_task(posting(http, session_id)) for session_id in sessions]
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)
        stop.set()
        return sum(await asyncio.gather(*clients)) / (perf_counter() - began)
