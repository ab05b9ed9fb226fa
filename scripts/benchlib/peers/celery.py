"""Celery on Redis, as it comes. This module is also what the worker imports."""

# mypy: disable-error-code=import-not-found

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from celery import Celery as App

from benchlib.peers.peer import QUEUED, RUNNING, beside
from benchlib.peers.redis_server import OnRedis
from benchlib.processes import until

app = App("bench")
app.conf.task_track_started = True  # else nobody could tell what runs
app.conf.broker_connection_retry_on_startup = True


def _at(url: str) -> None:
    app.conf.broker_url, app.conf.result_backend = f"{url}/0", f"{url}/1"


def _run(argv: list[str]) -> int:
    return subprocess.run(argv).returncode


run = app.task(name="run")(_run)
if "BENCH_CELERY" in os.environ:
    _at(os.environ["BENCH_CELERY"])


class Celery(OnRedis):
    """A worker with a pool of two processes."""

    title = "Celery"
    settings = "prefork, `-c 2`, results in Redis"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)

    def start(self, parallel: int) -> None:
        self.redis()
        _at(self.url)
        argv = ("-A", "benchlib.peers.celery", "worker", "-c", str(parallel), "-l", "WARNING")
        self.run(
            beside("celery"), *argv, "--without-gossip", "--without-mingle", BENCH_CELERY=self.url, C_FORCE_ROOT="1"
        )
        until(lambda: app.control.ping(timeout=0.2), 60)

    def submit(self, argv: Sequence[str]) -> Any:
        return run.delay(list(argv))

    def wait(self, handle: Any) -> None:
        handle.get(timeout=60, propagate=False)

    def status(self, handle: Any) -> str:
        state = app.AsyncResult(handle.id).state
        return {"PENDING": QUEUED, "STARTED": RUNNING}.get(state, str(state))

    def version(self) -> str:
        return f"{version('celery')}, Redis {self.redis().info()['redis_version']}"
