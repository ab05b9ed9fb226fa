"""A driver that really runs, a CLI made of shell lines, and a daemon that takes its reports."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from agentd.kinds.agents.protocol import Assignment, Record
from benchlib.processes import alive, environ, every_pid, until

#: However slow the machine.
PATIENCE_S = 60.0


class Told:
    """What the daemon was told; `answers` are given to questions in their order, `status` to every report."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.reports: list[dict[str, Any]] = []
        self.questions: list[dict[str, Any]] = []
        self.answers: list[str] = []
        self.withdrawn: list[str] = []
        self.waits = 0  #: how many times a question is answered 202 first

    def last(self, field: str) -> Any:
        """The field as it was last reported."""
        return next((report[field] for report in reversed(self.reports) if field in report), None)


@contextmanager
def daemon() -> Iterator[Told]:
    """Takes reports and answers questions on a free port of the loopback."""
    told = Told()

    class Answers(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Nothing on stderr."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert self.headers["authorization"] == "Bearer token-of-the-task"
            assert self.path.startswith("/tasks/task-1/")
            status, answer = told.status, dict[str, Any]()
            if "/ask" in self.path:
                told.questions.append(body)
                if body["ask_id"] in told.withdrawn:
                    answer["answered"] = None
                elif told.waits > 0 or not told.answers:
                    told.waits -= 1
                    status = 202
                else:
                    answer["answered"] = {"ask_id": body["ask_id"], "answer": told.answers.pop(0)}
            else:
                told.reports.append(body)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_DELETE(self) -> None:
            told.withdrawn.append(self.path.partition("?ask_id=")[2])
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Driven:
    """Drivers of one session: its workspace, its homes, its user's home, and a PATH with what the test puts there."""

    def __init__(self, root: Path, url: str = "", path: str = "") -> None:
        self.root = root
        self.workspace, self.user, self.bin = root / "workspace", root / "user", root / "bin"
        for directory in (self.workspace, self.user, self.bin):
            directory.mkdir(parents=True, exist_ok=True)
        self.result = root / "result"
        self.env = {
            "PATH": f"{self.bin}:{path or os.environ['PATH']}",
            "HOME": str(self.user),
            "AGENTD_URL": url,
            "AGENTD_TOKEN": "token-of-the-task",
            "AGENTD_TASK_ID": "task-1",
            "AGENTD_RESULT": str(self.result),
        }

    def program(self, name: str, script: str) -> None:
        """Put a shell script into its PATH."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def home(self, agent: str) -> Path:
        return self.root / "home" / agent

    def start(self, agent: str, prompt: str = "hello", **more: Any) -> subprocess.Popen[bytes]:
        """Start a driver; its streams are pipes, and it leads a process group of its own."""
        self.result.unlink(missing_ok=True)
        assignment = Assignment(agent=agent, prompt=prompt, home=str(self.home(agent)), **more)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "agentd.drivers.agent"],
            env=self.env,
            cwd=self.workspace,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(assignment))
        process.stdin.close()
        process.stdin = None
        return process

    def run(self, agent: str, prompt: str = "hello", **more: Any) -> Run:
        """Run a driver to its end."""
        return self.finish(self.start(agent, prompt, **more))

    def finish(self, process: subprocess.Popen[bytes], patience_s: float = PATIENCE_S) -> Run:
        """Wait for its end; what is left of its group is ended."""
        try:
            out, err = process.communicate(timeout=patience_s)
        finally:
            with_group_gone(process)
        record = msgspec.json.decode(self.result.read_bytes(), type=Record) if self.result.exists() else None
        return Run(process.returncode, out.decode(), err.decode(), record)


class Run:
    """How a driver ended; `code` is minus the signal."""

    def __init__(self, code: int, out: str, err: str, record: Record | None) -> None:
        self.code, self.out, self.err, self.record = code, out, err, record

    @property
    def succeeded(self) -> Record:
        assert self.record is not None, self.err
        assert self.record.ok, self.record
        assert self.code == 0, self.err
        return self.record

    @property
    def failed(self) -> Record:
        assert self.record is not None, self.err
        assert not self.record.ok
        return self.record


def with_group_gone(process: subprocess.Popen[bytes]) -> None:
    """End what is left of its process group, and it."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass
    process.wait(PATIENCE_S)


def end_all_of(root: Path) -> None:
    """End every process with a directory below this one in its environment, sessions of their own included."""

    def left() -> list[int]:
        return [pid for pid in every_pid() if alive(pid) and os.fsencode(f"{root}/") in environ(pid)]

    def ended() -> bool:
        found = left()
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not found

    until(ended)


def line_of(process: subprocess.Popen[bytes], matches: Callable[[str], bool]) -> str:
    """Read its output until a line matches."""
    assert process.stdout is not None
    for line in process.stdout:
        if matches(line.decode()):
            return line.decode()
    raise AssertionError("it ended before it said that")
