"""A daemon under test, and the plainest client of it: http.client on one kept connection."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from benchlib.processes import children, until, without_settings

TERMINAL = {"completed", "failed", "timeout", "cancelled"}
#: The query of a list for all other tasks.
LIVE = "state=waiting&state=queued&state=running"


def open_streams(metrics: str) -> int:
    """How many event streams a daemon has open, by what it answers to GET /metrics."""
    found = re.search(r"^agentd_event_subscribers(?:\{.*\})? ([0-9.]+)$", metrics, re.MULTILINE)
    assert found is not None, metrics
    return int(float(found[1]))


class Daemon:
    """One `agentd serve` on a data directory; `start` returns when it is ready."""

    def __init__(self, data_dir: Path, **settings: object) -> None:
        self.data_dir = data_dir
        self.environ = without_settings() | {f"AGENTD_{key.upper()}": str(value) for key, value in settings.items()}
        self.command = [str(Path(sys.executable).with_name("agentd"))]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The daemon's own."""
        assert self._process is not None
        return self._process.pid

    def start(self, timeout_s: float = 120) -> float:
        """Seconds from exec to the first 200 of /readyz."""
        # The log goes beside the data, for when something fails.
        argv = [*self.command, "serve", "--data-dir", str(self.data_dir), "--port", "0"]
        with self.data_dir.with_suffix(".log").open("ab") as log:
            began = perf_counter()
            self._process = subprocess.Popen(argv, env=self.environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until(self._answers, timeout_s)
        return perf_counter() - began

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            # Its last line: the log itself goes with the bench.
            said = self.data_dir.with_suffix(".log").read_text().strip().rpartition("\n")[2]
            raise RuntimeError(f"the daemon ended with {self._process.returncode}: {said}")
        try:
            about = json.loads((self.data_dir / "agent.json").read_bytes())
        except (OSError, ValueError):
            return False
        if about["pid"] != self.pid:  # what a killed one left
            return False
        try:
            with self.client() as client:
                return client.status("/readyz") == 200
        except OSError:
            return False

    def client(self) -> Client:
        """A client on a connection of its own."""
        return Client(*self.address())

    def address(self) -> tuple[str, str]:
        """Where it answers, and the token that it wants."""
        about = json.loads((self.data_dir / "agent.json").read_bytes())
        return about["url"], (self.data_dir / "token").read_text().strip()

    def kill(self, workers_too: bool = False) -> None:
        """SIGKILL, as a crash would; `workers_too` leaves the tasks' own processes without anybody."""
        assert self._process is not None
        for pid in [self.pid, *(children().get(self.pid, []) if workers_too else [])]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it was faster
        self._process.wait()

    def stop(self) -> int | None:
        """A clean stop, and no more: the exit code, which is negative if it had to be killed after 40 s."""
        if self._process is None or self._process.poll() is not None:
            return None
        self._process.terminate()
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            self.kill(workers_too=True)
        return self._process.returncode

    def __enter__(self) -> Daemon:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Client:
    """JSON over one connection that is kept."""

    def __init__(self, url: str, token: str) -> None:
        at = urlsplit(url)
        self._connection = http.client.HTTPConnection(at.hostname or "127.0.0.1", at.port, timeout=300)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def raw(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and body of the answer."""
        data = None if body is None else json.dumps(body)
        self._connection.request(method, path, body=data, headers=self._headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def status(self, path: str) -> int:
        """The status of a GET."""
        return self.raw("GET", path)[0]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer; an error is raised."""
        status, data = self.raw(method, path, body)
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {data[:300]!r}")
        return json.loads(data) if data else None

    def events(self, path: str) -> Iterator[str]:
        """The data of each event of a stream, to its end; nothing else can be asked on this connection meanwhile."""
        self._connection.request("GET", path, headers={**self._headers, "Accept": "text/event-stream"})
        for line in self._connection.getresponse():
            if line.startswith(b"data: "):
                yield line[6:].decode()

    def session(self, session_id: str, max_parallel: int = 1) -> str:
        """A new session."""
        self.call("POST", "/sessions", {"session_id": session_id, "policy": {"max_parallel": max_parallel}})
        return session_id

    def submit(self, session_id: str, *argv: str) -> str:
        """The id of a new task, acknowledged."""
        task: dict[str, Any] = self.call("POST", f"/sessions/{session_id}/task", {"spec": {"argv": argv}})
        return str(task["task_id"])

    def submit_batch(self, session_id: str, argv: Sequence[str], count: int) -> list[str]:
        """The ids of so many new tasks, acknowledged together."""
        made = self.call("POST", f"/sessions/{session_id}/tasks", [{"spec": {"argv": argv}}] * count)
        return [str(task["task_id"]) for task in made["data"]]

    def wait(self, task_id: str, timeout_s: float = 60) -> dict[str, Any]:
        """The task when it is terminal."""
        task: dict[str, Any] = {}
        end = perf_counter() + timeout_s
        while task.get("state") not in TERMINAL:
            if perf_counter() > end:
                raise TimeoutError(f"{task_id} is {task.get('state')} after {timeout_s} s")
            task = self.call("GET", f"/tasks/{task_id}/wait?timeout_s=20")
        return task

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
