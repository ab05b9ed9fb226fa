"""The attempts that run, and those that ended lately: nothing is launched twice."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable

from agentd.model.launch import EndedBy, Exit, Launch

#: Ended attempts whose exit is remembered.
REMEMBERED = 1000


class Running:
    """A launch that was given to a worker, and the future of its exit."""

    __slots__ = ("future", "input_open", "launch", "on_spawned", "pid", "pid_started_at", "sent", "taken")

    def __init__(self, launch: Launch, on_spawned: Callable[[int, int], None]) -> None:
        self.launch = launch
        self.on_spawned = on_spawned
        self.future: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.pid: int | None = None
        self.pid_started_at: int | None = None
        self.input_open = launch.interactive
        self.sent = self.taken = 0  #: bytes of input, since its start

    def spawned(self, pid: int, started_at: int) -> None:
        """Its process is known."""
        self.pid, self.pid_started_at = pid, started_at
        self.on_spawned(pid, started_at)

    def lost(self, message: str) -> Exit:
        """Its exit if the worker is gone; the log holds what it wrote until then."""
        try:
            size = os.stat(self.launch.log_path).st_size
        except OSError:
            size = 0
        return Exit(
            ended_by=EndedBy.WORKER_LOST,
            message=message,
            pid=self.pid,
            pid_started_at=self.pid_started_at,
            output_bytes=size,
        )


class Attempts:
    """Attempts by their id."""

    def __init__(self) -> None:
        self._running: dict[str, Running] = {}
        self._ended: OrderedDict[str, Exit] = OrderedDict()

    def known(self, attempt_id: str) -> asyncio.Future[Exit] | None:
        """The future of an attempt that runs or has ended lately; None for one that may be launched."""
        running = self._running.get(attempt_id)
        if running is not None:
            return running.future
        ended = self._ended.get(attempt_id)
        return None if ended is None else _resolved(ended)

    def begin(self, launch: Launch, on_spawned: Callable[[int, int], None]) -> Running:
        """Take up an attempt."""
        running = self._running[launch.attempt_id] = Running(launch, on_spawned)
        return running

    def running(self, attempt_id: str) -> asyncio.Future[Exit]:
        """The future of an attempt that runs now.

        Raises:
            KeyError: none of this id does.
        """
        return self._running[attempt_id].future

    def end(self, attempt_id: str, exit: Exit) -> asyncio.Future[Exit]:
        """Settle an attempt, one that never began included."""
        running = self._running.pop(attempt_id, None)
        self._ended[attempt_id] = exit
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
        if running is None:
            return _resolved(exit)
        if not running.future.done():  # whoever waited may have cancelled it
            running.future.set_result(exit)
        return running.future

    def end_all(self, message: str) -> None:
        """Settle all that run as lost."""
        for attempt_id, running in list(self._running.items()):
            self.end(attempt_id, running.lost(message))


def _resolved(exit: Exit) -> asyncio.Future[Exit]:
    future: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
    future.set_result(exit)
    return future
