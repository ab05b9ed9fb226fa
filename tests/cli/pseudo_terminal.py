"""A command on a real pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from types import TracebackType
from typing import Any, Self

from benchlib.processes import PATIENCE_S
from tests.cli.daemon_process import AGENTD, Agentd

#: What says how another terminal is; libreadline, once imported, sets the latter two for all processes that follow.
OF_ANOTHER = ("NO_COLOR", "COLUMNS", "LINES")


class Terminal:
    """A command whose stdin, stdout and stderr are one terminal of 100 columns; `stdout` may be given apart."""

    def __init__(self, agentd: Agentd, *args: str, env: dict[str, str] | None = None, **files: Any) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self.seen = b""
        self.process = subprocess.Popen(
            [*AGENTD, *args],
            cwd=agentd.home,
            env={name: value for name, value in agentd.env.items() if name not in OF_ANOTHER} | (env or {}),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            **{"stdin": slave, "stdout": slave, "stderr": slave, **files},
        )
        os.close(slave)

    def read_until(self, text: bytes, timeout_s: float = PATIENCE_S) -> bytes:
        """What was shown, once the text is."""
        end = time.monotonic() + timeout_s
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            assert self._read(), self.seen
        return self.seen

    def press(self, text: bytes) -> None:
        """Press keys."""
        os.write(self.master, text)

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE_S)

    def _read(self) -> bool:
        if not select.select([self.master], [], [], PATIENCE_S)[0]:
            return False
        try:
            block = os.read(self.master, 65536)
        except OSError:  # EIO: the last process has closed it
            return False
        self.seen += block
        return bool(block)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self.master)


def screen(raw: bytes) -> list[str]:
    """The lines that are left to see, of text with carriage returns and erasures of a line."""
    lines, column = [""], 0
    text = raw.decode()
    while text:
        if text.startswith("\x1b[K"):
            lines[-1] = lines[-1][:column]
            text = text[3:]
            continue
        c, text = text[0], text[1:]
        if c == "\n":
            lines.append("")
            column = 0
        elif c == "\r":
            column = 0
        else:
            lines[-1] = lines[-1][:column].ljust(column) + c + lines[-1][column + 1 :]
            column += 1
    return lines
