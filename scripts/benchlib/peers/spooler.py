"""task-spooler: a server that the first call leaves behind; every submit and every wait is a process."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchlib.peers.peer import LOST, QUEUED, RUNNING, Peer
from benchlib.processes import tagged, tree


class TaskSpooler(Peer):
    """`tsp` with a socket of its own; output goes to files."""

    title = "task-spooler"
    settings = "`tsp -S 2`"
    commands = ("tsp",)
    packages = ("task-spooler",)

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        # A socket's path is short: relative to where the calls are made.
        self._environ = {
            **os.environ, "TS_SOCKET": "socket", "TMPDIR": str(directory), "TS_MAXFINISHED": "100000",
            "BENCH_SPOOLER": str(directory),
        }  # fmt: skip
        self._server = 0

    def _run(self, *argv: str) -> str:
        # To a file, not a pipe: the server that the first call leaves behind would hold that open.
        with (self.directory / "answer").open("w+") as answer:
            subprocess.run(["tsp", *argv], env=self._environ, cwd=self.directory, stdout=answer, stderr=answer)
            answer.seek(0)
            return answer.read().strip()

    def start(self, parallel: int) -> None:
        self._run("-S", str(parallel))
        self._server = min(tagged(f"BENCH_SPOOLER={self.directory}"))

    def submit(self, argv: Sequence[str]) -> str:
        return self._run(*argv)

    def wait(self, handle: Any) -> None:
        self._run("-w", handle)

    def wait_all(self, handles: Sequence[Any]) -> None:
        for handle in handles[-3:]:
            self.wait(handle)

    def status(self, handle: Any) -> str:
        found = re.search(rf"^{handle} +(\S+) +\S+ +(\S*)", self._run("-l"), re.MULTILINE)
        if found is None:
            return LOST
        states = {"queued": QUEUED, "running": RUNNING}
        return states.get(found[1], f"{found[1]} {found[2]}")

    def processes(self) -> list[int]:
        return tree(self._server)

    def stop(self) -> None:
        self._run("-K")

    def version(self) -> str:
        return self._run("-V").split(" - ")[0].removeprefix("Task Spooler ").strip(" v")
