"""What the pool keeps of each worker: a place in the pool that outlives its processes, and the attempt it runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from enum import StrEnum

from agentd.engines.local.worker_process import WorkerProcess
from agentd.model.launch import EndedBy, Exit, Launch
from agentd.model.requests import WorkerView


class SlotState(StrEnum):
    """Where a worker stands. A claimed one is shown as busy."""

    STARTING = "starting"
    IDLE = "idle"
    CLAIMED = "claimed"
    BUSY = "busy"
    LOST = "lost"


class Attempt:
    """A launch that was given to a worker, and the future of its exit."""

    __slots__ = ("future", "launch", "on_spawned", "pid", "pid_started_at")

    def __init__(self, launch: Launch, future: asyncio.Future[Exit], on_spawned: Callable[[int, int], None]) -> None:
        self.launch = launch
        self.future = future
        self.on_spawned = on_spawned
        self.pid: int | None = None
        self.pid_started_at: int | None = None

    def lost(self, message: str) -> Exit:
        """The exit of an attempt whose worker is gone; the log holds what it wrote until then."""
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


class Slot:
    """One worker of the pool. Its id stays when the process is replaced; then `restarts` goes up."""

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        self.state = SlotState.STARTING
        self.process: WorkerProcess | None = None
        self.retired: WorkerProcess | None = None  #: the process that was let go
        self.attempt: Attempt | None = None
        self.pid = 0  #: of the process, or the last one
        self.started_at = ""
        self.tasks_done = 0
        self.restarts = 0
        self.idle_at = 0.0  #: monotonic
        self.heard_at = 0.0  #: monotonic
        self.silent = False  #: killed because it said nothing
        self.asked_to_restart = False

    def view(self) -> WorkerView:
        """As the API shows it."""
        return WorkerView(
            worker_id=self.worker_id,
            pid=self.pid,
            state="busy" if self.state is SlotState.CLAIMED else self.state.value,
            task_id=self.attempt.launch.task_id if self.attempt is not None else None,
            started_at=self.started_at,
            tasks_done=self.tasks_done,
            restarts=self.restarts,
        )
