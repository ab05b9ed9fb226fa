"""A task's bytes on the way to a terminal, a pipe or a file, and a line under them that says how it goes."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import stat
import sys
from typing import TextIO

from agentd.cli.wording import printable, shortened

#: What a pipe or a terminal that is ready takes without blocking (pipe(7), PIPE_BUF).
PIECE_BYTES = 4096


class Sink:
    """Writes bytes to a descriptor as they are. A slow reader holds up the caller, never the event loop, so that
    Ctrl-C works while a pager has the output."""

    def __init__(self, file: TextIO) -> None:
        file.flush()
        self.fd = file.fileno()
        self.tty = file.isatty()
        self._stat = os.fstat(self.fd)
        mode = self._stat.st_mode
        self._may_block = self.tty or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLOUT)
        self.at_line_start = True

    def is_same_as(self, other: Sink) -> bool:
        """Whether both lead to one terminal, pipe or file."""
        return os.path.samestat(self._stat, other._stat)

    async def write(self, data: bytes) -> None:
        """Write all of it.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        rest = memoryview(data)
        while rest:
            if self._may_block and not self._poll.poll(0):
                await self._writable()
            piece = rest[:PIECE_BYTES] if self._may_block else rest
            try:
                rest = rest[os.write(self.fd, piece) :]
            except BlockingIOError:  # somebody made it non-blocking
                await self._writable()
        if data:
            self.at_line_start = data.endswith(b"\n")

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self.fd, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self.fd)


class StatusLine:
    """One line on stderr, drawn over and over; nothing at all where stderr is no terminal.

    It is taken away before output is written, and drawn again only where the output has ended its line.
    """

    def __init__(self) -> None:
        self.on = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._drawn = False

    def draw(self, text: str) -> None:
        """Show the text in place of what was shown."""
        if self.on:
            line = shortened(printable(text), shutil.get_terminal_size().columns - 1)
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()
            self._drawn = True

    def erase(self) -> None:
        """Leave no trace."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False
