"""A place in the pool: it outlives the processes that fill it."""

from __future__ import annotations

from enum import StrEnum

from agentd.engines.local.attempts import Running
from agentd.engines.local.worker_process import WorkerProcess
from agentd.model.requests import WorkerView


class SlotState(StrEnum):
    """Where a worker stands. The API knows no `claimed` (it says busy) and no `vacant` (lost)."""

    STARTING = "starting"
    IDLE = "idle"
    CLAIMED = "claimed"
    BUSY = "busy"
    LOST = "lost"  #: what it left is being ended
    VACANT = "vacant"  #: that is done, and the next process is not started yet


_SHOWN = {SlotState.CLAIMED: "busy", SlotState.VACANT: "lost"}


class Slot:
    """One worker of the pool. Its id stays when the process is replaced; then `restarts` goes up."""

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        self.state = SlotState.STARTING
        self.process: WorkerProcess | None = None  #: None once it was let go or lost
        self.running: Running | None = None
        self.pid = 0  #: of the process, or the last one
        self.started_at = ""
        self.tasks_done = 0
        self.restarts = 0
        self.idle_at = 0.0  #: monotonic
        self.heard_at = 0.0  #: monotonic
        self.end_reason = ""  #: why the daemon killed it, if it did
        self.asked_to_restart = False

    def view(self) -> WorkerView:
        """As the API shows it."""
        return WorkerView(
            worker_id=self.worker_id,
            pid=self.pid,
            state=_SHOWN.get(self.state, self.state.value),
            task_id=self.running.launch.task_id if self.running is not None else None,
            started_at=self.started_at,
            tasks_done=self.tasks_done,
            restarts=self.restarts,
        )
