"""What every peer is to the bench: something that takes commands, runs two at a time, and says how they ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchlib.processes import tree, until

#: What a peer says of a task, in one vocabulary; anything else is what it ended as.
QUEUED, RUNNING, LOST = "queued", "running", "nothing is known of it"


class Peer:
    """One peer in a directory of its own. `start` also starts again what was killed, on the same data."""

    title = ""
    settings = ""  #: what was set, in a few words
    durable = False  #: whether a submit is acknowledged only when it is synced to disk
    commands: Sequence[str] = ()  #: programs it needs
    packages: Sequence[str] = ()  #: the Debian packages that have them

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._started: list[subprocess.Popen[bytes]] = []
        self._servers: list[subprocess.Popen[bytes]] = []

    # ------------------------------------------------------------------ what each one does its own way

    def start(self, parallel: int) -> None:
        """Ready to run so many at a time."""
        raise NotImplementedError

    def submit(self, argv: Sequence[str]) -> Any:
        """A handle of the task, acknowledged."""
        raise NotImplementedError

    def wait(self, handle: Any) -> None:
        """Return when the task has ended."""
        raise NotImplementedError

    def status(self, handle: Any) -> str:
        """QUEUED, RUNNING, LOST, or what it ended as."""
        raise NotImplementedError

    def submit_all(self, argv: Sequence[str], count: int) -> list[Any]:
        """Handles of so many tasks."""
        return [self.submit(argv) for _ in range(count)]

    def wait_all(self, handles: Sequence[Any]) -> None:
        """Return when all of them have ended."""
        for handle in reversed(handles):
            self.wait(handle)

    def version(self) -> str:
        """Which it is."""
        raise NotImplementedError

    # ------------------------------------------------------------------ processes

    def processes(self) -> list[int]:
        """Its daemon and workers with all below them; servers that it stands on are `servers`."""
        return [pid for process in self._started if process.poll() is None for pid in tree(process.pid)]

    def servers(self) -> list[int]:
        """The database or broker."""
        return [pid for process in self._servers if process.poll() is None for pid in tree(process.pid)]

    def stop(self) -> None:
        """End everything that `start` started, gently and then not."""
        for process in [*self._started, *self._servers]:
            end(process)
        self._started, self._servers = [], []

    def run(
        self,
        *argv: str | Path,
        server: bool = False,
        user: str | None = None,
        pass_fds: Sequence[int] = (),
        **environ: str,
    ) -> int:
        """Start a process whose output goes to a log; returns where in the log it began. Another user's starts in /."""
        log = self.log
        with log.open("ab") as out:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **environ},
                cwd="/" if user else self.directory, user=user, pass_fds=pass_fds,
            )  # fmt: skip
            (self._servers if server else self._started).append(process)
            return out.tell()

    @property
    def log(self) -> Path:
        """What its processes say."""
        return self.directory / "log"

    def said(self, words: str, since: int, times: int = 1) -> None:
        """Wait until the log has the words so often, from that place on."""
        until(lambda: self.log.read_bytes()[since:].count(words.encode()) >= times, 60)


def end(process: subprocess.Popen[bytes], timeout_s: float = 15) -> None:
    """End a process that we started, and wait."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def kill(pids: Sequence[int]) -> None:
    """SIGKILL; who has gone has gone."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def beside(name: str) -> str:
    """A program of the environment that this process runs in."""
    return str(Path(sys.executable).with_name(name))


def without_error(work: Callable[[], object]) -> bool:
    """Whether the work can be done yet."""
    try:
        work()
    except Exception:  # every library has its own for "not yet"
        return False
    return True


def fresh(directory: Path) -> Path:
    """The directory, empty."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory
