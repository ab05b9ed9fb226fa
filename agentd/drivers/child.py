"""The CLI as a child process: in our process group, so that a stop reaches both, spoken to without ever blocking."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Mapping
from typing import NoReturn

#: What ends a program and can be caught; a child that has it alone is told.
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Child:
    """A running CLI; `out` and `err` are its ends to read from, non-blocking."""

    def __init__(self, argv: tuple[str, ...], env: Mapping[str, str]) -> None:
        """Start it.

        Raises:
            OSError: it cannot be started.
        """
        self._process = subprocess.Popen(
            argv,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            # What we handle it must not find handled; what Python ignores it must not find ignored.
            restore_signals=True,
        )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.input = process.stdin.fileno()
        self.out, self.err = process.stdout.fileno(), process.stderr.fileno()
        for end in (self.input, self.out, self.err):
            os.set_blocking(end, False)
        self.handle = os.pidfd_open(process.pid)
        self._unwritten = bytearray()
        self._closing = False
        self.input_open = True

    def say(self, data: bytes) -> None:
        """Write to its standard input, as fast as it reads."""
        if self.input_open and not self._closing:
            self._unwritten += data

    def say_no_more(self) -> None:
        """End its standard input once all is written."""
        self._closing = True

    @property
    def has_more_to_hear(self) -> bool:
        """Whether there is something to write, or its input to be closed."""
        return self.input_open and (bool(self._unwritten) or self._closing)

    def write_some(self) -> None:
        """Write what fits; call when its input is writable."""
        try:
            del self._unwritten[: os.write(self.input, self._unwritten) if self._unwritten else 0]
        except BlockingIOError:
            return
        except OSError:  # it does not listen any more
            self._unwritten.clear()
            self._closing = True
        if self._closing and not self._unwritten:
            self.close_input()

    def close_input(self) -> None:
        """Close its standard input at once."""
        if self.input_open:
            self.input_open = False
            assert self._process.stdin is not None
            self._process.stdin.close()

    def signal(self, number: int) -> None:
        """Signal it, if it is still there."""
        self._process.send_signal(number)

    @property
    def code(self) -> int | None:
        """Its exit code, minus the signal that ended it, or None while it runs."""
        return self._process.poll()

    def close(self) -> None:
        """End it if it runs, and let go of it."""
        if self.code is None:
            self._process.kill()
            self._process.wait()
        self.close_input()
        for end in (self._process.stdout, self._process.stderr):
            if end is not None:
                end.close()
        os.close(self.handle)


def end_as(code: int) -> NoReturn:
    """End this process as a child ended: with its exit code, or by the same signal and without a core of our own."""
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
        code = 128 - code  # a signal that does not end us
    os._exit(code)
