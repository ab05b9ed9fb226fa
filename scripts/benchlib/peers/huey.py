"""huey on SQLite: threads of one consumer. This module is also what the consumer imports."""

# mypy: disable-error-code=import-not-found

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from time import sleep
from typing import Any

from huey import SqliteHuey

from benchlib.peers.peer import LOST, QUEUED, Peer, beside
from benchlib.processes import until

queue = SqliteHuey("bench", filename=os.environ.get("BENCH_HUEY", ":memory:"), fsync=True)
#: The library's own wait polls every 100 ms or less often.
POLL_S = 0.002


def _run(argv: list[str]) -> int:
    return subprocess.run(argv).returncode


run = queue.task()(_run)


class Huey(Peer):
    """One consumer with a fixed pace of polls: out of the box they become rarer, up to 10 s."""

    title = "huey (SQLite)"
    settings = "2 threads, polls every 10 ms (out of the box up to 10 s), synchronous=FULL"
    durable = True

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._file = str(directory / "huey.db")
        queue.storage.close()
        queue.storage.filename = self._file
        queue.storage.initialize_schema()

    def start(self, parallel: int) -> None:
        pace = ("-d", "0.01", "-m", "0.01", "-b", "1.0")
        argv = (beside("huey_consumer"), "benchlib.peers.huey.queue", "-w", str(parallel), "-k", "thread", *pace)
        self.said("The following commands", self.run(*argv, BENCH_HUEY=self._file))

    def submit(self, argv: Sequence[str]) -> Any:
        return run(list(argv))

    def wait(self, handle: Any) -> None:
        while handle.get(preserve=True) is None:
            sleep(POLL_S)

    def wait_all(self, handles: Sequence[Any]) -> None:
        until(lambda: queue.pending_count() == 0, 600, 0.01)
        for handle in handles[-4:]:
            self.wait(handle)

    def status(self, handle: Any) -> str:
        result = handle.get(preserve=True)
        if result is not None:
            return f"result {result}"
        return QUEUED if any(task.id == handle.id for task in queue.pending()) else LOST

    def version(self) -> str:
        from importlib.metadata import version

        return version("huey")
