"""A real daemon in a process of its own, for tests that kill it."""

from __future__ import annotations

import http.client
import json
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchlib.processes import PATIENCE_S, environ, every_pid
from benchlib.processes import marked as marked
from benchlib.processes import until as until


def _readable(sock: socket.socket) -> bool:
    """Whether something came, or the end; a descriptor may be any number, as it may not for `select`."""
    waiting = select.poll()
    waiting.register(sock, select.POLLIN)
    return bool(waiting.poll(0))


class Answer:
    """A response: status, headers and the decoded body."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RealDaemon:
    """`agentd serve` on a data directory; start it, talk to it, kill it, start it again."""

    def __init__(self, data_dir: Path, **settings: object) -> None:
        self.data_dir = data_dir
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        self.connection: http.client.HTTPConnection | None = None

    def command(self) -> list[str]:
        """How it is started; the settings are written to a file beside the directory."""
        config = self.data_dir.with_name(self.data_dir.name + ".yaml")
        config.write_text(json.dumps(self.settings))
        command = [sys.executable, "-X", "faulthandler", "-m", "agentd.cli.main", "serve"]
        return [*command, "--data-dir", str(self.data_dir), "--port", "0", "--config", str(config)]

    @property
    def log_path(self) -> Path:
        return self.data_dir.with_name(self.data_dir.name + ".log")

    def agent_text(self) -> bytes:
        """agent.json; nothing while there is none."""
        path = self.data_dir / "agent.json"
        return path.read_bytes() if path.exists() else b""

    def start(self, *, ready: bool = True) -> RealDaemon:
        before = self.agent_text()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        if ready:
            self.answered(before)
        return self

    def answered(self, before: bytes) -> None:
        """Wait until it answers: agent.json is another than before. It must not have ended."""
        until(lambda: self.ended() or self.agent_text() != before)
        assert not self.ended(), f"left with {self.process and self.process.returncode}: {self.log_text()}"
        self.agent = json.loads(self.agent_text())
        self.token = (self.data_dir / "token").read_text().strip()
        self.connect()

    def connect(self) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(self.agent["url"]).netloc, timeout=2 * PATIENCE_S)

    def ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def log_text(self) -> str:
        return self.log_path.read_text()

    def request(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        assert self.connection is not None
        send = {"Authorization": f"Bearer {self.token}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            send.setdefault("Content-Type", "application/json")
        if (sock := self.connection.sock) and _readable(sock):
            self.connection.close()  # the daemon let an idle connection go; the next request opens another
        try:
            self.connection.request(method, path, data, send)
            response = self.connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        except (OSError, http.client.HTTPException):
            self.connection.close()
            raise

    def get(self, path: str) -> Any:
        answer = self.request("GET", path)
        assert answer.status == 200, answer.body
        return answer.json

    def shell(self, session_id: str, command: str, **fields: object) -> dict[str, Any]:
        body = {"kind": "shell", "spec": {"command": command}, "session_id": session_id, **fields}
        answer = self.request("POST", "/tasks", body)
        assert answer.status == 201, answer.body
        task: dict[str, Any] = answer.json
        return task

    def task(self, task_id: str) -> dict[str, Any]:
        task: dict[str, Any] = self.get(f"/tasks/{task_id}")
        return task

    def wait(self, task_id: str, within_s: float = PATIENCE_S) -> dict[str, Any]:
        task: dict[str, Any] = self.get(f"/tasks/{task_id}/wait?timeout_s={within_s}")
        assert task["state"] in ("completed", "failed", "timeout", "cancelled"), task
        return task

    def state(self, task_id: str, state: str, within_s: float = PATIENCE_S) -> dict[str, Any]:
        return until(lambda: t if (t := self.task(task_id))["state"] == state else None, within_s)

    def kill9(self) -> None:
        """SIGKILL the daemon alone; what it leaves is what the next start must deal with."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        if self.connection is not None:
            self.connection.close()

    def workers(self) -> list[dict[str, Any]]:
        workers: list[dict[str, Any]] = self.get("/workers")["data"]
        return workers

    def stop(self, within_s: float = PATIENCE_S, number: int = signal.SIGTERM) -> int:
        """SIGTERM, or another signal, and the exit code."""
        assert self.process is not None
        if self.connection is not None:
            self.connection.close()
        self.process.send_signal(number)
        return self.process.wait(within_s)

    def end(self) -> None:
        """Whatever the test did: nothing of it is left."""
        if self.process is not None and not self.ended():
            self.process.kill()
            self.process.wait()
        if self.connection is not None:
            self.connection.close()
        until(lambda: not self.leftovers())

    def leftovers(self) -> list[int]:
        """Processes that the daemon's workers and tasks still have, by their environment."""
        mark = str(self.data_dir).encode()
        return [pid for pid in every_pid() if b"AGENTD_TASK_ID=" in (own := environ(pid)) and mark in own]
