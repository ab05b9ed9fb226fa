"""nq: no daemon; every job is a process that waits for the locks of those before it. One queue runs one at a time."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchlib.peers.peer import LOST, RUNNING, Peer, kill
from benchlib.processes import tagged


class Nq(Peer):
    """Two directories, by turns, are two at a time."""

    title = "nq"
    settings = "two queues by turns"
    commands = ("nq",)
    packages = ("nq",)

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._queues: list[Path] = []
        self._next = 0

    def start(self, parallel: int) -> None:
        self._queues = [self.directory / f"queue-{n}" for n in range(parallel)]
        for queue in self._queues:
            queue.mkdir(exist_ok=True)

    def _run(self, queue: Path, *argv: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "NQDIR": str(queue), "BENCH_NQ": str(self.directory)}
        return subprocess.run(["nq", *argv], env=environ, stdout=subprocess.PIPE, text=True)

    def submit(self, argv: Sequence[str]) -> tuple[Path, str]:
        queue = self._queues[self._next % len(self._queues)]
        self._next += 1
        return queue, self._run(queue, *argv).stdout.strip()

    def wait(self, handle: Any) -> None:
        queue, job = handle
        self._run(queue, "-w", job)

    def wait_all(self, handles: Sequence[Any]) -> None:
        for queue in self._queues:
            self._run(queue, "-w")

    def status(self, handle: Any) -> str:
        queue, job = handle
        if self._run(queue, "-t", job).returncode:
            return RUNNING
        try:
            text = (queue / job).read_text()
        except OSError:
            return LOST
        return "done, exit code known" if "[exited with status" in text else "done, exit code unknown"

    def processes(self) -> list[int]:
        named = tagged(f"BENCH_NQ={self.directory}")
        return [pid for pid in named if _comm(pid) == "nq"]

    def stop(self) -> None:
        kill(tagged(f"BENCH_NQ={self.directory}"))

    def version(self) -> str:
        return subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "nq"], capture_output=True, text=True).stdout


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
