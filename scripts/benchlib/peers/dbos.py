"""DBOS on SQLite. This module is also the program that runs the workflows."""

# mypy: disable-error-code=import-not-found

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from signal import pause
from typing import Any

from dbos import DBOS, DBOSClient

from benchlib.peers.peer import QUEUED, RUNNING, Peer

POLL_S = 0.01  # out of the box 1 s


def _step(argv: list[str]) -> int:
    return subprocess.run(argv).returncode


def _serve(database: str, parallel: int) -> None:
    DBOS(
        config={
            "name": "bench",
            "system_database_url": database,
            "log_level": "WARNING",
            "run_admin_server": False,
        }
    )
    step = DBOS.step(name="run_step")(_step)

    def run(argv: list[str]) -> int:
        return int(step(argv))

    DBOS.workflow(name="run")(run)
    DBOS.launch()
    DBOS.register_queue("bench", global_concurrency=parallel, polling_interval_sec=POLL_S)
    print("READY", flush=True)
    while True:
        pause()


class Dbos(Peer):
    """A durable queue, a workflow of one step for each task."""

    title = "DBOS (SQLite)"
    settings = "a workflow of one step, polls every 10 ms (out of the box 1 s)"
    durable = True

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._database = f"sqlite:///{directory / 'dbos.db'}"
        self._client: Any = None

    def start(self, parallel: int) -> None:
        self.said("READY", self.run(sys.executable, "-m", "benchlib.peers.dbos", self._database, str(parallel)))
        if self._client is None:
            self._client = DBOSClient(system_database_url=self._database)

    def submit(self, argv: Sequence[str]) -> Any:
        return self._client.enqueue({"workflow_name": "run", "queue_name": "bench"}, list(argv))

    def wait(self, handle: Any) -> None:
        handle.get_result(polling_interval_sec=0.002)

    def wait_all(self, handles: Sequence[Any]) -> None:
        for handle in reversed(handles):
            handle.get_result(polling_interval_sec=0.02)

    def status(self, handle: Any) -> str:
        state = handle.get_status().status
        return {"ENQUEUED": QUEUED, "PENDING": RUNNING}.get(state, str(state))

    def stop(self) -> None:
        if self._client is not None:
            self._client.destroy()
            self._client = None
        super().stop()

    def version(self) -> str:
        return version("dbos")


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
