"""What keeps the house in order: the emergency reset, the status."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence

from agentd import __version__
from agentd.clock import epoch
from agentd.errors import AgentdError, SessionReadOnly, StorageFailed
from agentd.model.events import (
    Event,
    TaskStopRequested,
)
from agentd.model.launch import Capacity
from agentd.model.requests import QueueView, Scale, Window, WorkerView
from agentd.model.task import Cause, CauseCode, State, Task, Value
from agentd.model.upkeep import ResetReport
from agentd.service.recovery import Recovery
from agentd.store.datadir import PROBE_BYTES
from agentd.store.ledger import Ledger


class QueueFacts(Value, frozen=True, kw_only=True):
    """How much waits."""

    depth: int
    waiting: int
    oldest_age_s: float | None


class DiskFacts(Value, frozen=True, kw_only=True):
    """The filesystem of the data directory; `full` when the last write found no room, or there is none for the next.

    `refusal` is why it takes no writes for another reason, as when it became read-only.
    """

    free_bytes: int
    total_bytes: int
    full: bool
    refusal: str | None


class Status(Value, frozen=True, kw_only=True):
    """GET /status; `state` is idle, working, draining or degraded."""

    agent_id: str
    version: str
    boot_id: str
    state: str
    current: tuple[Task, ...]
    queue: QueueFacts
    workers: Capacity
    disk: DiskFacts
    sessions: int
    started_at: str


class Upkeep(Recovery):
    """Reset, status."""

    # ------------------------------------------------------------------ stopping

    async def stop_running(self, ledger: Ledger, tasks: Sequence[Task], cause: Cause) -> None:
        """Record the intent to stop running tasks, then stop them; what cannot be recorded is stopped all the same."""
        events: list[Event] = [
            TaskStopRequested(at=self.now(), task_id=task.task_id, cause=cause)
            for task in tasks
            if (head := ledger.head(task.task_id)) and head.state is State.RUNNING and head.stop_cause is None
        ]
        try:
            if events:
                await self.stage(ledger, events)
        finally:
            for task in tasks:
                self.runner.stop(task)

    async def reset(self) -> ResetReport:
        """Emergency: end everything that is not terminal and replace every worker; says what it did."""
        cause = Cause(code=CauseCode.SESSION_CANCELLED, message="emergency reset")
        ends, cancelled = [], []
        for ledger in self.store.resident:
            if ledger.live or ledger.live_runs():
                with contextlib.suppress(StorageFailed, SessionReadOnly):  # the others must end all the same
                    stopped = await self.stop_all(ledger, cause)
                    cancelled += [task.task_id for task in stopped]
                    ends += [self.end_of(task.task_id) for task in stopped if not task.terminal]
        if ends:
            await asyncio.wait(ends, timeout=self.settings.workers.grace_s + 5)
            for end in ends:
                end.cancel()
        replaced = 0
        for worker in self.runner.workers():
            with contextlib.suppress(AgentdError):
                await self.runner.restart_worker(worker.worker_id)
                replaced += 1
        return ResetReport(cancelled=tuple(cancelled), workers_replaced=replaced)

    def shutdown(self) -> None:
        """Ask the daemon to drain and stop."""
        self._stop_asked.set()

    # ------------------------------------------------------------------ what is asked

    def status(self) -> Status:
        """What the daemon is and does now."""
        capacity, disk = self.runner.capacity(), self.disk()
        current = tuple(
            task
            for ledger in self.store.resident
            if ledger.counts["running"]
            for task in ledger.tasks.values()
            if task.state is State.RUNNING
        )
        if self.runner.draining:
            state = "draining"
        elif capacity.degraded or disk.full or disk.refusal:
            state = "degraded"
        else:
            state = "working" if current else "idle"
        return Status(
            agent_id=self.agent_id,
            version=__version__,
            boot_id=self.boot_id,
            state=state,
            current=current,
            queue=self.queue_facts(),
            workers=capacity,
            disk=disk,
            sessions=len(self.store.entries),
            started_at=self.started_at,
        )

    def queue_facts(self) -> QueueFacts:
        """How much waits, without the order it waits in."""
        ledgers = self.store.resident
        since = (
            task.queued_at or task.created_at
            for ledger in ledgers
            if ledger.counts["queued"]
            for task in ledger.tasks.values()
            if task.state is State.QUEUED
        )
        oldest = min(since, default=None)
        return QueueFacts(
            depth=sum(ledger.counts["queued"] for ledger in ledgers),
            waiting=sum(ledger.counts["waiting"] for ledger in ledgers),
            oldest_age_s=max(0.0, self.clock.time() - epoch(oldest)) if oldest else None,
        )

    def disk(self) -> DiskFacts:
        """How much room there is."""
        found = os.statvfs(self.store.data_dir)
        free = found.f_bavail * found.f_frsize
        return DiskFacts(
            free_bytes=free,
            total_bytes=found.f_blocks * found.f_frsize,
            full=self.store.room.full or free < PROBE_BYTES,
            refusal=self.store.room.refusal,
        )

    def queue(self, window: Window) -> QueueView:
        """What is queued or waiting, and why."""
        return self.runner.queue(window)

    def workers(self) -> tuple[WorkerView, ...]:
        """Every worker."""
        return tuple(self.runner.workers())

    async def restart_worker(self, worker_id: str) -> WorkerView:
        """Replace a worker; what it runs ends as worker_lost.

        Raises:
            WorkerNotFound: no such worker.
        """
        return await self.runner.restart_worker(worker_id)

    def scale(self, scale: Scale) -> Capacity:
        """Change the pool's bounds.

        Raises:
            Invalid: `min` would be over `max`.
        """
        return self.runner.scale(scale)
