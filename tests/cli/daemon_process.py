"""A real daemon as a process of its own, and the command line called as a user calls it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from agentd.cli.main import cli
from benchlib.processes import PATIENCE_S, until, without_settings

AGENTD = (sys.executable, "-m", "agentd.cli.main")
Result = subprocess.CompletedProcess[bytes]


class Agentd:
    """One daemon on a directory of its own, and commands that find it there."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data_dir = home / "data"
        self.process: subprocess.Popen[bytes] | None = None
        self.env = without_settings() | {"HOME": str(home), "AGENTD_DATA_DIR": str(self.data_dir)}
        self.env |= {"TERM": "xterm", "LANG": "C.UTF-8"}
        self.before: tuple[str, ...] = ()  #: what starts the daemon
        self.settings = {"AGENTD_DRAIN_S": "0.2", "AGENTD_WORKERS_GRACE_S": "60"}

    def start(self) -> None:
        with open(self.home / "daemon.log", "ab") as log:
            self.process = subprocess.Popen(
                [*self.before, *AGENTD, "serve", "--port", "0"], cwd=self.home, env=self.env | self.settings, stderr=log
            )
        until(self._answers)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.home / "daemon.log").read_text()
        with contextlib.suppress(OSError, ValueError):
            return bool(self.agent["pid"] == self.process.pid)
        return False

    @property
    def agent(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data_dir / "agent.json").read_bytes())
        return found

    @property
    def token(self) -> str:
        return (self.data_dir / "token").read_text().strip()

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise

    def __call__(self, *args: str, code: int | None = 0, input: bytes | None = None, **env: str) -> Result:
        """Run a command to its end; `code` is what it must exit with."""
        done = subprocess.run(
            [*AGENTD, *args],
            cwd=self.home,
            env=self.env | env,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            timeout=60,
        )
        assert code is None or done.returncode == code, (args, done)
        return done

    def text(self, *args: str, code: int = 0, **options: Any) -> str:
        """What a command says. It runs in this process where that makes no difference, for the sake of speed."""
        if options or args[0] in ("run", "logs"):
            return self(*args, code=code, **options).stdout.decode()
        nothing = dict.fromkeys(name for name in os.environ if name.startswith("AGENTD_"))
        done = CliRunner().invoke(cli, args, env=nothing | self.env, catch_exceptions=False)
        assert done.exit_code == code, (args, done.output)
        return done.stdout

    def json(self, *args: str, **options: Any) -> Any:
        return json.loads(self.text(*args, "-o", "json", **options))

    def popen(self, *args: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command; the caller ends it."""
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen[bytes]([*AGENTD, *args], cwd=self.home, env=self.env, **(pipes | options))
