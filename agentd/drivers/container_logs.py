"""A container's output, out of the frames in which an engine sends it, to our own stdout and stderr.

Nothing is kept but the counts of what was written: after a connection was lost the engine is asked for all of it
again, and what was written already is passed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import stat
import termios
import time

from agentd.drivers.container_engine import Engine, Refused

_HEADER = 8
_STDOUT, _STDERR = 1, 2
#: How long what was written to one stream may take to be read before the other is written to, and between two looks.
READ_S, LOOK_S = 0.05, 0.0002


class Frames:
    """Takes frames apart as they come: a byte for the stream, three zeros, four for the length, then the output.

    `raw`: the container has a terminal, and what comes is its output as it stands.
    """

    def __init__(self, *, raw: bool) -> None:
        self._raw = raw
        self._header = bytearray()
        self._stream = _STDOUT
        self._left = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The streams, and what was written to each, in the order in which they come.

        Raises:
            Refused: these are no frames.
        """
        if self._raw:
            return [(_STDOUT, data)] if data else []
        found: list[tuple[int, bytes]] = []
        at = 0
        while at < len(data):
            if not self._left:
                taken = data[at : at + _HEADER - len(self._header)]
                self._header += taken
                at += len(taken)
                if len(self._header) == _HEADER:
                    self._begin()
                continue
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            found.append((self._stream, piece))
        return found

    def _begin(self) -> None:
        stream, zeros, length = self._header[0], self._header[1:4], self._header[4:]
        if stream > _STDERR or any(zeros):
            raise Refused(
                f"the engine sent output in a form that is not known here (a frame began with {self._header.hex()})"
            )
        self._stream = _STDERR if stream == _STDERR else _STDOUT
        self._left = int.from_bytes(length)
        self._header.clear()


class Output:
    """Our stdout and stderr, and how much was written to each. One thread of the loop's executor keeps the order."""

    def __init__(self) -> None:
        self._written = {_STDOUT: 0, _STDERR: 0}
        self._last = _STDOUT

    @property
    def bytes(self) -> int:
        """What was written so far."""
        return sum(self._written.values())

    async def take(self, engine: Engine, container_id: str, *, raw: bool, follow: bool, aloud: bool = True) -> None:
        """Write what the container has written and was not written yet; with `follow`, until it has ended.

        Not `aloud`: count it as written.

        Raises:
            Refused, Missing, Away: what comes next can be had by another call.
        """
        frames = Frames(raw=raw)
        passed = dict.fromkeys(self._written, 0)
        async for data in engine.output(container_id, follow=follow):
            for stream, piece in frames.feed(data):
                known = min(len(piece), self._written[stream] - passed[stream])
                passed[stream] += len(piece)
                if known < len(piece):
                    self._written[stream] += len(piece) - known
                    if not aloud:
                        continue
                    # In a thread: a worker that is busy must not keep a stop from being heard. What was counted is
                    # written whatever happens to us.
                    await asyncio.shield(asyncio.to_thread(_write, stream, piece[known:], self._last))
                    self._last = stream


def _write(stream: int, data: bytes, last: int) -> None:
    """Write all of it, when what went to the other stream was read: in two pipes at once both have no order."""
    if stream != last:
        _await_read(last)
    view = memoryview(data)
    with contextlib.suppress(OSError):  # nobody reads it any more
        while view:
            view = view[os.write(stream, view) :]


def _await_read(end: int) -> None:
    with contextlib.suppress(OSError):
        if not stat.S_ISFIFO(os.fstat(end).st_mode):
            return
        patience = time.monotonic() + READ_S
        while any(fcntl.ioctl(end, termios.FIONREAD, bytes(4))) and time.monotonic() < patience:
            time.sleep(LOOK_S)
