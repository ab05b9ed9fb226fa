"""Writes what a running task is given to read, as fast as it reads: into its pipe, or typed into its terminal.

Runs in the worker: standard library only.
"""

from __future__ import annotations

import os
import select

from .spawning import Streams, set_size

END_OF_FILE = b"\x04"  #: as a person types it
#: One write, in bytes.
PIECE = 64 << 10


class Feeder:
    """The input of one attempt that has a terminal, or is interactive: then it stays open behind what it is given."""

    def __init__(self, poller: select.poll, streams: Streams, given: bytes, interactive: bool) -> None:
        self.open = True
        self._poller = poller
        self._tty = streams.tty
        self._fd = streams.out if streams.tty else streams.feed
        self._unwritten = bytearray()
        self._sent = 0  # bytes that came by `give`
        self._last = b"\n"
        self._ending = False
        if not self._tty:
            poller.register(self._fd, 0)  # the system always tells of a pipe that nobody reads any more
        self._add(given)
        if not interactive:
            self.end()

    @property
    def taken(self) -> int:
        """How many bytes that were sent to it the task's pipe or terminal has taken, or never will."""
        return max(0, self._sent - len(self._unwritten))

    def give(self, data: bytes) -> None:
        """More to read, after what there is."""
        self._sent += len(data)
        if self.open and not self._ending:
            self._add(data)

    def end(self) -> None:
        """After this there is no more; a terminal is told as a person tells it, at the beginning of a line."""
        if self.open and not self._ending:
            self._ending = True
            if self._tty:
                self._unwritten += (b"" if self._last == b"\n" else b"\n") + END_OF_FILE
            self._watch()

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of its terminal; without one, no effect."""
        if self._tty and self.open:
            set_size(self._fd, rows, columns)

    def on_ready(self, fd: int, events: int) -> None:
        """Write a piece, if this is its descriptor and there is room."""
        if fd != self._fd or not self.open or not events & (select.POLLOUT | select.POLLERR):
            return
        if not self._unwritten and events & select.POLLERR:
            self.close()  # nobody reads it any more
            return
        try:
            del self._unwritten[: os.write(fd, self._unwritten[:PIECE])]
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if self._ending and not self._unwritten and not self._tty:
            self.close()
        else:
            self._watch()

    def close(self) -> None:
        """Write no more. The terminal itself is the listener's to close."""
        if not self.open:
            return
        self.open = False
        self._unwritten.clear()
        if self._tty:
            self._poller.modify(self._fd, select.POLLIN)
        else:
            self._poller.unregister(self._fd)
            os.close(self._fd)

    def _add(self, data: bytes) -> None:
        if data:
            self._unwritten += data
            self._last = data[-1:]
            self._watch()

    def _watch(self) -> None:
        more = self._unwritten or (self._ending and not self._tty)
        self._poller.modify(self._fd, (select.POLLIN if self._tty else 0) | (select.POLLOUT if more else 0))
