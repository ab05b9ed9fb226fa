"""Carries what a process writes to the recorder.

Runs in the worker: standard library only.
"""

from __future__ import annotations

import os
import select

from .recorder import Recorder
from .spawning import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .feeding import Feeder

#: One read; a stream that fills it gets a pipe and reads of `LARGE_READ`.
READ, LARGE_READ = 64 << 10, 1 << 20
F_SETPIPE_SZ = 1031


class Listener:
    """Reads the streams when the poller says that they have something."""

    def __init__(self, poller: select.poll, streams: Streams, recorder: Recorder) -> None:
        self._poller = poller
        self._recorder = recorder
        self._tty = streams.tty
        self.feeder: Feeder | None = None  #: who types into the terminal that is read here
        self._open = {streams.out: "out"} if streams.tty else {streams.out: "out", streams.err: "err"}
        self._buffer = memoryview(b"")  # most short commands are silent
        for fd in self._open:
            poller.register(fd, select.POLLIN)

    def on_ready(self, fd: int, now: float) -> bool:
        """Take one read's worth; False when that passed the recorder's limit. Other descriptors are ignored."""
        stream = self._open.get(fd)
        if stream is None:
            return True
        if not self._buffer:
            self._buffer = memoryview(bytearray(READ))
        try:
            count = os.readv(fd, (self._buffer,))
        except BlockingIOError:
            return True
        except OSError:
            count = 0  # a terminal whose last user left answers EIO
        if count == 0:
            self._close(fd)
            return True
        within = self._recorder.write(stream, self._buffer[:count], now)
        if count == len(self._buffer) < LARGE_READ:
            self._enlarge()
        return within

    def drain(self, now: float) -> bool:
        """Take what dead processes left in the pipes, and close; False when that passed the limit.

        A stranger may hold a pipe and go on writing, so no more is taken than a pipe can hold.
        """
        within = True
        for fd in list(self._open):
            most = self._recorder.taken + LARGE_READ
            before = -1
            while within and fd in self._open and before < self._recorder.taken < most:
                before = self._recorder.taken
                within = self.on_ready(fd, now)
        self.close()
        return within

    def close(self) -> None:
        """Hear no more."""
        for fd in list(self._open):
            self._close(fd)

    def _close(self, fd: int) -> None:
        del self._open[fd]
        if self._tty and self.feeder is not None:
            self.feeder.close()
        self._poller.unregister(fd)
        os.close(fd)

    def _enlarge(self) -> None:
        """More per read for a process that has much to say; others keep to the system's small default."""
        self._buffer = memoryview(bytearray(LARGE_READ))
        if self._tty:
            return
        import fcntl  # only for much output

        for fd in self._open:
            try:
                fcntl.fcntl(fd, F_SETPIPE_SZ, LARGE_READ)
            except OSError:
                pass  # over the user's allowance for pipes: slower, not wrong
