"""A log of 200 MB through the API: its last window, any window, a search over it, and how soon a new line is seen."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from threading import Thread
from time import perf_counter, time

from benchlib.daemon import Client, Daemon
from benchlib.figures import Row, median, ms, percentile
from benchlib.processes import rss_mib

LINE = "line %09d of a build that says what it does, as builds do, and then some more of it for a hundred letters"
#: A line every 20 ms that says when it was written.
TICKING = "import time\nfor n in range({}):\n    print(f'at {{time.time():.6f}}', flush=True)\n    time.sleep(0.02)"


def logs(directory: Path, lines: int, rounds: int) -> list[Row]:
    """One task writes it; then the daemon is started anew, and has read none of it."""
    with Daemon(directory / "logs") as daemon:
        with daemon.client() as client:
            client.session("s")
            program = f'BEGIN {{ for (i = 1; i <= {lines}; i++) printf "{LINE}\\n", i }}'
            task = client.submit("s", "awk", program)
            client.wait(task, 120)
        daemon.stop()
        daemon.start()
        size = next((daemon.data_dir / "sessions" / "s" / "output").glob(f"{task}*.log")).stat().st_size >> 20
        before = rss_mib(daemon.pid)
        with daemon.client() as client:
            path = f"/tasks/{task}/output"
            last = partial(_window, client, path, lines - 200)
            first, again = last(), [last() for _ in range(rounds)]
            middle = [_window(client, path, lines * n // (rounds + 1)) for n in range(1, rounds + 1)]
            found = [_search(client, path, lines - n * 7 - 1) for n in range(rounds)]
            memory = rss_mib(daemon.pid) - before
            tail = _tail(daemon, client, rounds * 10)
    return [
        Row(f"log of {size} MB: its last 200 lines, the daemon has yet to read it", ms(first), "≤ 500 ms",
            first <= 0.5),
        Row("… its last 200 lines, any 200 lines, once it has", f"{ms(median(again))}, {ms(median(middle))}", "≤ 20 ms",
            max(median(again), median(middle)) <= 0.02),
        Row("… a search over all of it", f"{ms(median(found))} (worst {ms(max(found))})", "≤ 1000 ms",
            median(found) <= 1),
        Row("… memory for all of this", f"{memory:.1f} MiB more", "≤ 20 MiB", memory <= 20),
        Row("a line written until a follower has it, p50 / p99", f"{ms(median(tail))} / {ms(percentile(tail, 99))}",
            "p99 ≤ 250 ms", percentile(tail, 99) <= 0.25),
    ]  # fmt: skip


def _window(client: Client, path: str, line: int) -> float:
    began = perf_counter()
    shown = client.call("GET", f"{path}/lines?line={line}&count=200")["lines"]
    took = perf_counter() - began
    if len(shown) != 200:
        raise RuntimeError(f"{len(shown)} lines from {line} of {path}")
    return took


def _search(client: Client, path: str, line: int) -> float:
    began = perf_counter()
    found = client.call("GET", f"{path}/search?q={LINE.split()[0]}%20{line:09}&limit=10")
    took = perf_counter() - began
    if len(found["data"] if "data" in found else found["matches"]) != 1:
        raise RuntimeError(f"{line}: {str(found)[:200]}")
    return took


def _tail(daemon: Daemon, client: Client, lines: int) -> list[float]:
    """Seconds from a task's write to an open stream of its output, by the clock that both read."""
    task = client.submit("s", "python3", "-c", TICKING.format(lines))
    delays: list[float] = []

    def follow() -> None:
        with daemon.client() as following:
            for data in following.events(f"/tasks/{task}/stream"):
                now = time()
                delays.extend(now - float(word) for word in _times(data))

    follower = Thread(target=follow)
    follower.start()
    client.wait(task, 120)
    follower.join(30)
    if len(delays) < lines // 2:
        raise RuntimeError(f"{len(delays)} of {lines} lines came")
    return delays[lines // 10 :]  # the first ones may be of before it followed


def _times(data: str) -> list[str]:
    text = str(json.loads(data).get("text", ""))
    words = text.split()
    return [word for word, before in zip(words[1:], words, strict=False) if before == "at"]
