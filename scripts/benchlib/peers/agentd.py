"""agentd itself: one POST a task over one kept connection, and the same with a hundred tasks a POST."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchlib.daemon import TERMINAL, Client, Daemon
from benchlib.peers.peer import QUEUED, RUNNING, Peer
from benchlib.processes import tree


class Agentd(Peer):
    """A daemon with two workers; the tasks of one session."""

    title = "agentd"
    settings = "one POST a task"
    durable = True

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._daemon = Daemon(directory / "data", workers_min=2, workers_max=2)
        self._client: Client | None = None

    def start(self, parallel: int) -> None:
        new = not self._daemon.data_dir.exists()
        self._daemon.start()
        self._client = self._daemon.client()
        if new:
            self._client.session("bench", max_parallel=parallel)

    @property
    def client(self) -> Client:
        assert self._client is not None
        return self._client

    def submit(self, argv: Sequence[str]) -> str:
        return self.client.submit("bench", *argv)

    def wait(self, handle: Any) -> None:
        self.client.wait(handle)

    def status(self, handle: Any) -> str:
        try:
            task = self.client.call("GET", f"/tasks/{handle}")
        except (OSError, http.client.HTTPException):
            self._client = self._daemon.client()
            task = self.client.call("GET", f"/tasks/{handle}")
        if task["state"] in TERMINAL:
            return f"{task['state']}, {task['cause']['code']}"
        return RUNNING if task["state"] == "running" else QUEUED

    def processes(self) -> list[int]:
        return tree(self._daemon.pid)

    def stop(self) -> None:
        self._daemon.stop()

    def version(self) -> str:
        return str(self.client.call("GET", "/status")["version"])


class Batched(Agentd):
    """A hundred tasks a POST."""

    settings = "100 tasks a POST"
    each = 100

    def submit_all(self, argv: Sequence[str], count: int) -> list[Any]:
        handles: list[Any] = []
        body = [{"session_id": "bench", "spec": {"argv": list(argv)}}] * self.each
        while len(handles) < count:
            handles += self.client.call("POST", "/tasks", body[: count - len(handles)])["data"]
        return [task["task_id"] for task in handles]
