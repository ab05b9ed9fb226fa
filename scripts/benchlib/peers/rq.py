"""RQ: two workers on a Redis, first without a fork for each job, then as it comes."""

# mypy: disable-error-code=import-not-found

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import rq

from benchlib.peers.peer import LOST, QUEUED, RUNNING, beside
from benchlib.peers.redis_server import OnRedis
from benchlib.processes import until


def run(argv: list[str]) -> int:
    """What a job does."""
    return subprocess.run(argv).returncode


class RqSimple(OnRedis):
    """`rq worker -w rq.SimpleWorker`, twice."""

    title = "RQ, SimpleWorker"
    settings = "2 workers that run jobs themselves"
    options: Sequence[str] = ("-w", "rq.SimpleWorker")

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._queue: Any = None

    def start(self, parallel: int) -> None:
        connection = self.redis()
        self._queue = rq.Queue("default", connection=connection)
        for _ in range(parallel):
            self.run(beside("rq"), "worker", "-u", self.url, "-q", *self.options)
        until(lambda: self._ready(connection) >= parallel, 60)

    def _ready(self, connection: Any) -> int:
        ours = set(self.processes())
        return sum(each.pid in ours and bool(each.state) for each in rq.Worker.all(connection=connection))

    def submit(self, argv: Sequence[str]) -> Any:
        return self._queue.enqueue(run, list(argv), job_timeout=3600, result_ttl=3600)

    def wait(self, handle: Any) -> None:
        if handle.latest_result(timeout=60) is None:
            raise TimeoutError(handle.id)

    def wait_all(self, handles: Sequence[Any]) -> None:
        started = self._queue.started_job_registry
        until(lambda: self._queue.count == 0 and started.count == 0, 600, 0.01)
        for handle in handles[-2:]:
            self.wait(handle)

    def status(self, handle: Any) -> str:
        state = handle.get_status(refresh=True)
        if state is None:
            return LOST
        return {"queued": QUEUED, "started": RUNNING}.get(state.value, str(state.value))

    def version(self) -> str:
        return f"{version('rq')}, Redis {self.redis().info()['redis_version']}"


class Rq(RqSimple):
    """`rq worker`, twice."""

    title = "RQ"
    settings = "2 workers, a fork for each job"
    options = ()
