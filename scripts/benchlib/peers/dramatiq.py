"""dramatiq on Redis with results. This module is also what its processes import."""

# mypy: disable-error-code=import-not-found

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import dramatiq as library
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from dramatiq.results.errors import ResultMissing

from benchlib.peers.peer import QUEUED, RUNNING, beside
from benchlib.peers.redis_server import OnRedis


def _run(argv: list[str]) -> int:
    return subprocess.run(argv).returncode


def _at(url: str) -> Any:
    broker = RedisBroker(url=url)
    broker.add_middleware(Results(backend=RedisBackend(url=url)))
    library.set_broker(broker)
    return library.actor(actor_name="run", store_results=True, time_limit=3_600_000)(_run)


if "BENCH_DRAMATIQ" in os.environ:
    run = _at(os.environ["BENCH_DRAMATIQ"])


class Dramatiq(OnRedis):
    """Two processes of one thread each."""

    title = "dramatiq"
    settings = "`-p 2 -t 1`, results in Redis"
    _actor: Any = None

    def start(self, parallel: int) -> None:
        self.redis()
        if self._actor is None:
            self._actor = _at(self.url)
        argv = ("-p", str(parallel), "-t", "1", "benchlib.peers.dramatiq")
        began = self.run(beside("dramatiq"), *argv, BENCH_DRAMATIQ=self.url)
        self.said("ready for action", began, parallel)

    def submit(self, argv: Sequence[str]) -> Any:
        return self._actor.send(list(argv))

    def wait(self, handle: Any) -> None:
        handle.get_result(block=True, timeout=60_000)

    def status(self, handle: Any) -> str:
        try:
            return f"result {handle.get_result()}"
        except ResultMissing:
            waiting = self.redis().lrange("dramatiq:default", 0, -1)
            fetched = str(handle.options["redis_message_id"]).encode() not in waiting
            return RUNNING if fetched else QUEUED

    def stop(self) -> None:
        super().stop()
        self._actor = None

    def version(self) -> str:
        return f"{version('dramatiq')}, Redis {self.redis().info()['redis_version']}"
