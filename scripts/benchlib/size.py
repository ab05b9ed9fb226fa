"""How much: long histories, many sessions, and what an idle daemon costs."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, sleep

from benchlib.daemon import Client, Daemon
from benchlib.figures import Row, median, ms, percentile
from benchlib.fill import fill
from benchlib.limits import cold_cache
from benchlib.processes import exact_cpu_s, rss_mib, tree, wakeups


def history(directory: Path, records: int, pages: int) -> list[Row]:
    """Pages of 1,000 while somebody else asks all the time whether the daemon is there."""
    data_dir = directory / "history"
    fill(data_dir, 1, records)
    path = "/sessions/bench-00000/history?limit=1000"
    took = []
    with Daemon(data_dir) as daemon, daemon.client() as client:
        first = perf_counter()
        client.call("GET", path)
        first = perf_counter() - first
        quiet = _pauses(daemon, 2.0, lambda: sleep(0.02))

        def page() -> None:
            seconds, body = _timed(client, path)
            took.append(seconds)
            if body.count(b'"task_id"') < 1000:
                raise RuntimeError(f"a page is short: {body[:200]!r}")

        busy = _pauses(daemon, 0.0, page, pages)
        turned, cursors = _turned(client, path, max(3, min(pages, records // 1000 - 2)))
    with Daemon(data_dir) as daemon, daemon.client() as client:
        client.call("GET", path)
        # From the oldest: what is read ahead of each is the one before, so nothing is ahead of who asks.
        alone = [_timed(client, f"{path}&cursor={cursor}")[0] for cursor in reversed(cursors)]
    shutil.rmtree(data_dir)
    p50, worst = percentile(took, 50), percentile(busy, 100)
    return [
        Row(f"history page of 1,000 from {records:,} records, p50 / p99",
            f"{ms(p50)} / {ms(percentile(took, 99))}; the very first {ms(first)}", "≤ 10 ms", p50 <= 0.010),
        Row("the same, pages that nobody read before, turned in order",
            f"{ms(percentile(turned, 50))} / {ms(percentile(turned, 99))}", "≤ 10 ms", percentile(turned, 50) <= 0.010),
        Row("… and out of order, so that none is read ahead",
            f"{ms(percentile(alone, 50))} / {ms(percentile(alone, 99))}", "≤ 10 ms", percentile(alone, 50) <= 0.010),
        Row("longest pause of the event loop meanwhile, as another client sees it",
            f"{ms(worst)}, p99 {ms(percentile(busy, 99))} (idle: {ms(percentile(quiet, 100))})", "≤ 20 ms",
            worst <= 0.020),
    ]  # fmt: skip


def _turned(client: Client, path: str, pages: int) -> tuple[list[float], list[str]]:
    """How long each of the following pages took, none of which was asked for before, and the cursors of them."""
    took, cursors = [], []
    _, body = _timed(client, path)
    for _ in range(pages):
        cursors.append(json.loads(body)["next"])
        seconds, body = _timed(client, f"{path}&cursor={cursors[-1]}")
        took.append(seconds)
    return took, cursors


def _timed(client: Client, path: str) -> tuple[float, bytes]:
    began = perf_counter()
    status, body = client.raw("GET", path)
    took = perf_counter() - began
    if status != 200:
        raise RuntimeError(f"{status} {body[:200]!r}")
    return took, body


def _pauses(daemon: Daemon, seconds: float, work: object, times: int = 0) -> list[float]:
    """How long each of many GET /healthz of another process took while the work was done over and over."""
    assert callable(work)
    ours, theirs = multiprocessing.Pipe()
    pinger = multiprocessing.Process(target=_ping, args=(daemon, theirs))
    pinger.start()
    ours.recv()
    end = perf_counter() + seconds
    done = 0
    while done < times or perf_counter() < end:
        work()
        done += 1
    ours.send("stop")
    samples: list[float] = ours.recv()
    pinger.join()
    return samples


def _ping(daemon: Daemon, pipe: Connection) -> None:
    samples = []
    with daemon.client() as client:
        client.status("/healthz")
        pipe.send("ready")
        while not pipe.poll(0.001):
            began = perf_counter()
            client.status("/healthz")
            samples.append(perf_counter() - began)
    pipe.send(samples)


def ready(directory: Path, sessions: int, tasks_each: int, rounds: int) -> list[Row]:
    """From exec to the first 200 of /readyz: with nothing, and with much, from a warm and from a cold cache."""
    data_dir = directory / "many"
    fill(data_dir, sessions, tasks_each)
    empty, warm, cold, cold_empty = [], [], [], []
    for number in range(rounds):
        empty.append(_ready(directory / f"empty-{number}"))
        warm.append(_ready(data_dir))
    why_not = None
    for _ in range(rounds):
        why_not = cold_cache()
        if why_not:
            break
        cold.append(_ready(data_dir))
        cold_cache()
        cold_empty.append(_ready(directory / "empty-0"))
    with Daemon(data_dir) as daemon:
        rss = rss_mib(daemon.pid)
    shutil.rmtree(data_dir)
    many = f"ready with {sessions:,} sessions, {sessions * tasks_each:,} tasks"
    figure = why_not or f"{median(cold):.2f} s (with nothing, {median(cold_empty):.2f} s)"
    return [
        Row("ready, empty", f"{median(empty):.2f} s", "≤ 0.8 s", median(empty) <= 0.8),
        Row(f"{many}, warm cache", f"{median(warm):.2f} s; RSS {rss:.0f} MiB", "≤ 1.5 s", median(warm) <= 1.5),
        Row(f"{many}, cold cache", figure, "≤ 3 s", median(cold) <= 3 if cold else None),
    ]


def _ready(data_dir: Path) -> float:
    daemon = Daemon(data_dir)
    try:
        return daemon.start()
    finally:
        daemon.stop()


def idle(directory: Path, seconds: float) -> list[Row]:
    """What a daemon that has nothing to do costs."""
    with Daemon(directory / "idle") as daemon, daemon.client() as client:
        client.session("idle")
        for _ in range(20):
            client.wait(client.submit("idle", "true"))
        sleep(2)
        family = tree(daemon.pid)
        used = [exact_cpu_s(pid) for pid in family]
        woken = [wakeups(pid) for pid in family]
        sleep(seconds)
        used = [exact_cpu_s(pid) - before for pid, before in zip(family, used, strict=True)]
        woken = [wakeups(pid) - n for pid, n in zip(family, woken, strict=True)]
        rss = rss_mib(daemon.pid)
        workers = [rss_mib(pid) for pid in family[1:]]
    share = sum(used) / seconds
    return [
        Row("idle RSS of the daemon",
            f"{rss:.1f} MiB; {len(workers)} workers of {max(workers, default=0):.1f} MiB", "≤ 50 MiB", rss <= 50),
        Row(f"idle CPU over {seconds:g} s, daemon and workers",
            f"{share:.3%} of a core; woken {woken[0]} + {sum(woken[1:])} times", "≤ 0.1 %", share <= 0.001),
    ]  # fmt: skip
