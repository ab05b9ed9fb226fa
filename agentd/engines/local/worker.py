"""The worker: a program that runs one launch at a time for the daemon that started it.

    python -I -S worker.py HEARTBEAT_S

Standard input is its end of a socket pair. Messages are lines of JSON:

    from the daemon   {"run": Launch}   {"stop": attempt_id, "grace_s": n}
                      {"input": attempt_id, "data": base64, "eof": bool}   for one that is interactive
                      {"resize": attempt_id, "rows": n, "columns": n}      for one that has a terminal
    to the daemon     {"type": "ready"}
                      {"type": "spawned", "attempt_id": …, "pid": …, "pid_started_at": …}   if it lives for 10 ms
                      {"type": "fed", "attempt_id": …, "taken": n, "open": bool}   how much of its input it took
                      {"type": "exit", "attempt_id": …, "exit": Exit}    the tree is gone, the output complete
                      {"type": "alive"}                                  every HEARTBEAT_S while busy

When the daemon goes away, so does the tree (SIGTERM, half a second, SIGKILL), and then the worker. SIGTERM without a
daemon kills at once; with one it is ignored, since the daemon decides. A hundred of these may run: only small parts
of the standard library are imported, and nothing of agentd but the modules beside this one.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time

if not __package__:  # run by its path (PEP 366): the modules beside it are its package, without agentd above
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    __package__ = "local"
    __import__(__package__)

from .attempt import Attempt
from .process_tree import become_subreaper
from .spawning import SpawnFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DAEMON = 0
#: What a tree gets between SIGTERM and SIGKILL when the daemon is gone.
ORPHAN_GRACE_S = 0.5
#: One read: most launches in one, and no more than what memory is at hand for.
READ = 64 << 10
#: A message from the daemon is no longer than this.
MESSAGE_BYTES = 64 << 20


class Worker:
    """Waits for the daemon, for signals and for its attempt, all at once; nothing is polled."""

    def __init__(self, heartbeat_s: float) -> None:
        self._heartbeat_s = heartbeat_s
        self._heartbeat_at = 0.0
        self._attempt: Attempt | None = None
        self._fed_told = 0, True
        self._received = bytearray()
        self._orphaned = False
        self._terminated = False
        self._poller = select.poll()
        self._wake = self._watch_signals()
        os.set_blocking(DAEMON, False)
        self._poller.register(DAEMON, select.POLLIN)

    def run(self) -> None:
        """Serve until the daemon is gone and nothing runs."""
        self._tell({"type": "ready"})
        while not self._orphaned or self._attempt is not None:
            for fd, events in self._poller.poll(self._timeout_ms()):
                if fd == DAEMON:
                    self._receive()
                elif fd == self._wake:
                    self._on_signal()
                elif self._attempt is not None:
                    self._attempt.on_ready(fd, events, time.monotonic())
            if self._attempt is not None:
                self._drive(self._attempt)

    def _drive(self, attempt: Attempt) -> None:
        now = time.monotonic()
        if not attempt.over and attempt.tick(now):
            self._tell(
                {
                    "type": "spawned",
                    "attempt_id": attempt.id,
                    "pid": attempt.pid,
                    "pid_started_at": attempt.pid_started_at,
                }
            )
        if attempt.feeder is not None:
            self._tell_fed(attempt.id, attempt.feeder.taken, attempt.feeder.open)
        if attempt.over:
            self._attempt = None
            self._tell_exit(attempt.id, attempt.exit())
        elif now >= self._heartbeat_at:
            self._heartbeat_at = now + self._heartbeat_s
            self._tell({"type": "alive"})

    def _timeout_ms(self) -> float | None:
        if self._attempt is None:
            return None
        due = self._attempt.due
        at = self._heartbeat_at if due is None else min(due, self._heartbeat_at)
        return max(0.0, (at - time.monotonic()) * 1000)

    # Signals

    def _watch_signals(self) -> int:
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _noted)
        signal.signal(signal.SIGTERM, _noted)
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(ignored, signal.SIG_IGN)
        self._poller.register(read, select.POLLIN)
        return read

    def _on_signal(self) -> None:
        numbers = os.read(self._wake, 4096)
        now = time.monotonic()
        if signal.SIGTERM in numbers:
            self._terminated = self._daemon_left()
            if self._terminated:
                self._receive()
        if self._attempt is None:
            return
        if self._orphaned and self._terminated:
            self._attempt.stop("stopped", 0.0, now)
        if signal.SIGCHLD in numbers:
            self._attempt.on_child(now)

    # The daemon

    def _daemon_left(self) -> bool:
        if self._orphaned:
            return True
        poller = select.poll()
        poller.register(DAEMON, 0)
        return bool(poller.poll(0))  # POLLHUP is always reported

    def _receive(self) -> None:
        if self._orphaned:
            return
        try:
            data = os.read(DAEMON, READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or len(self._received) > MESSAGE_BYTES:
            self._leave()
            return
        self._received += data
        if data.find(b"\n") < 0:
            return
        *lines, self._received = self._received.split(b"\n")
        for line in lines:
            self._obey(json.loads(line.decode()))

    def _obey(self, message: dict[str, Any]) -> None:
        launch, attempt = message.get("run"), self._attempt
        if launch is not None:
            if attempt is None:
                self._begin(launch)
        elif attempt is None:
            return
        elif message.get("stop") == attempt.id:
            attempt.stop("stopped", message["grace_s"], time.monotonic())
        elif attempt.feeder is None:
            return
        elif message.get("input") == attempt.id:
            import binascii  # few tasks are given anything

            attempt.feeder.give(binascii.a2b_base64(message["data"]))
            if message["eof"]:
                attempt.feeder.end()
        elif message.get("resize") == attempt.id:
            attempt.feeder.resize(message["rows"], message["columns"])

    def _begin(self, launch: dict[str, Any]) -> None:
        self._heartbeat_at = time.monotonic() + self._heartbeat_s
        self._fed_told = 0, True
        try:
            self._attempt = Attempt(launch, self._poller)
        except SpawnFailed as error:
            self._tell_exit(launch["attempt_id"], {"ended_by": "spawn_failed", "message": str(error)})

    def _leave(self) -> None:
        """The daemon is gone: nobody will ask for the result, and the tree must not outlive it."""
        self._orphaned = True
        self._poller.unregister(DAEMON)
        if self._attempt is not None:
            self._attempt.stop("stopped", 0.0 if self._terminated else ORPHAN_GRACE_S, time.monotonic())

    def _tell(self, message: dict[str, Any]) -> bool:
        """Say it if the daemon listens; one that is stuck must not keep a timeout from being enforced."""
        if self._orphaned:
            return False
        try:
            os.write(DAEMON, json.dumps(message).encode() + b"\n")
        except OSError:
            return False  # full: it has enough news to read; gone: the poller says so
        return True

    def _tell_fed(self, attempt_id: str, taken: int, is_open: bool) -> None:
        """Say how much was taken, once; what could not be said is tried again, at the latest with a heartbeat."""
        news = taken, is_open
        if news != self._fed_told and self._tell(
            {"type": "fed", "attempt_id": attempt_id, "taken": taken, "open": is_open}
        ):
            self._fed_told = news

    def _tell_exit(self, attempt_id: str, end: dict[str, Any]) -> None:
        """Say it, however long the daemon takes to listen."""
        data = memoryview(json.dumps({"type": "exit", "attempt_id": attempt_id, "exit": end}).encode() + b"\n")
        while data and not self._orphaned:
            try:
                data = data[os.write(DAEMON, data) :]
            except BlockingIOError:
                poller = select.poll()
                poller.register(DAEMON, select.POLLOUT)
                poller.poll()
            except OSError:
                self._leave()


def _noted(number: int, frame: object) -> None:
    """The wake-up pipe carries the number of the signal; a handler must be there for that."""


if __name__ == "__main__":
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # what the daemon itself was given is not for the tasks
    become_subreaper()
    Worker(float(sys.argv[1])).run()
