"""What an engine is: it runs launches and knows nothing of sessions. One implementation so far: `engines/local`.

The order of one attempt: `claim` a worker, make `task.started` durable with its id, `start`, await the Exit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from agentd.model.events import AgentEvent
from agentd.model.launch import Capacity, Exit, Launch
from agentd.model.requests import WorkerView


class Engine(Protocol):
    """Runs launches, each under a worker of its own.

    All methods are called on the event loop. `on_free` rings whenever a claim may succeed that failed before.
    """

    on_free: Callable[[], None]
    on_event: Callable[[AgentEvent], None]

    async def open(self) -> None:
        """Start what is kept ready; returns without waiting for it."""

    def claim(self) -> str | None:
        """Reserve an idle worker and name it; None when there is none now (the pool then grows if it may)."""

    def release(self, worker_id: str) -> None:
        """Give a claimed worker back unused."""

    def start(self, worker_id: str, launch: Launch, on_spawned: Callable[[int, int], None]) -> asyncio.Future[Exit]:
        """Run the launch on the claimed worker; idempotent by attempt id.

        `on_spawned(pid, pid_started_at)` is called if the process lives longer than a few milliseconds.
        The future never raises: every failure is an Exit.
        """

    def attach(self, attempt_id: str) -> asyncio.Future[Exit]:
        """The future of an attempt that runs now.

        Raises:
            KeyError: the engine does not run it.
        """

    def stop(self, attempt_id: str, grace_s: float | None = None) -> None:
        """Ask the attempt's tree to end: SIGTERM, the grace in seconds, SIGKILL. Again, or unknown: no effect."""

    def input(self, attempt_id: str, data: bytes, *, eof: bool) -> int:
        """Hand an interactive attempt more to read, in order; how many bytes it has not taken yet.

        Raises:
            KeyError: the engine does not run it.
            Conflict: it is not interactive, or its input is closed.
            InputFull: it does not read what it was given before.
        """

    def resize(self, attempt_id: str, rows: int, columns: int) -> None:
        """Change the size of an attempt's terminal.

        Raises:
            KeyError: the engine does not run it.
            Conflict: it has none that can be resized.
        """

    def capacity(self) -> Capacity:
        """What it can run now."""

    def workers(self) -> Sequence[WorkerView]:
        """Every worker."""

    async def restart_worker(self, worker_id: str) -> WorkerView:
        """Replace a worker; what it runs ends as worker_lost.

        Raises:
            WorkerNotFound: no such worker.
        """

    def scale(self, minimum: int | None, maximum: int | None) -> Capacity:
        """Change the bounds of the pool; busy workers beyond them leave when done."""

    def lend(self, waiting: int) -> None:
        """So many of those that run only wait for others, for which as many more may run."""

    async def close(self) -> None:
        """Let idle workers go. The caller has stopped all attempts before."""
