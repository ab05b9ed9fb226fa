"""How soon the daemon shows what befell it from outside: a worker that was killed, a file that was edited."""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from pathlib import Path
from time import perf_counter

from benchlib.daemon import Client, Daemon
from benchlib.figures import Row, median, ms
from benchlib.processes import tagged, until


def noticed(directory: Path, times: int) -> list[Row]:
    """One worker, killed under a task; one session, edited by hand. Each so many times."""
    with Daemon(directory / "notice", workers_max=1, workers_max_restarts=1000) as daemon, daemon.client() as client:
        client.session("s")
        client.session("edited")
        metadata = daemon.data_dir / "sessions" / "edited" / "metadata.json"
        until(metadata.exists, 10)
        lost = [_lost(client) for _ in range(times)]
        edits = [_edited(client, metadata, f"edit {number}") for number in range(times)]
    return [
        _row("a worker killed under its task, until that has ended with its tree", lost),
        _row("`metadata.json` edited by hand, until it is shown", edits),
    ]


def _row(what: str, times: list[float]) -> Row:
    return Row(f"{what}: median / worst of {len(times)}", f"{ms(median(times))} / {ms(max(times))}", "≤ 1 s",
               max(times) <= 1)  # fmt: skip


def _lost(client: Client) -> float:
    task_id = client.submit("s", "sh", "-c", "setsid sleep 1000 & sleep 1000")
    tag = f"AGENTD_TASK_ID={task_id}"
    until(lambda: len(tagged(tag)) >= 2, 30)
    (worker,) = client.call("GET", "/workers")["data"]
    began = perf_counter()
    os.kill(worker["pid"], signal.SIGKILL)
    task = client.wait(task_id)
    took = perf_counter() - began
    if task["cause"]["code"] != "worker_lost" or tagged(tag):
        raise RuntimeError(f"{task_id} ended {task['cause']}, alive: {tagged(tag)}")
    return took


def _edited(client: Client, metadata: Path, title: str) -> float:
    session, mine = json.loads(metadata.read_bytes()), metadata.stat().st_ino
    began = perf_counter()
    metadata.write_text(json.dumps({**session, "title": title}))
    until(partial(_is, client, title), 30)
    took = perf_counter() - began
    until(lambda: metadata.stat().st_ino != mine, 30)  # written back: a next edit is not lost to that
    return took


def _is(client: Client, title: str) -> bool:
    return bool(client.call("GET", "/sessions/edited")["title"] == title)
