"""What keeps the house in order: recovery, the emergency reset, the status."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence

from agentd import __version__
from agentd.clock import epoch
from agentd.errors import AgentdError, SessionReadOnly, StorageFailed
from agentd.model.consequences import interrupted, open_needs
from agentd.model.events import (
    AgentRecovered,
    Event,
    TaskEvent,
    TaskFinished,
    TaskQueued,
    TaskRetried,
    TaskStopRequested,
)
from agentd.model.launch import Capacity
from agentd.model.requests import QueueView, ResetReport, Scale, Window, WorkerView
from agentd.model.task import Cause, CauseCode, State, Task, Value
from agentd.service.attempts import Attempts
from agentd.store.catalogue import Found
from agentd.store.ledger import Ledger


class QueueFacts(Value, frozen=True, kw_only=True):
    """How much waits."""

    depth: int
    waiting: int
    oldest_age_s: float | None


class DiskFacts(Value, frozen=True, kw_only=True):
    """The filesystem of the data directory; `full` when the last write found no room."""

    free_bytes: int
    total_bytes: int
    full: bool


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


class Upkeep(Attempts):
    """Recovery, reset, status."""

    # ------------------------------------------------------------------ recovery

    def running_at_start(self, found: Found) -> list[Task]:
        """Tasks that the last boot left running."""
        ledgers = [self._resident(session_id) for session_id in found.live]
        return [task for ledger in ledgers for task in ledger.tasks.values() if task.state is State.RUNNING]

    async def recover(self, found: Found, *, killed: int, began: float) -> AgentRecovered:
        """End, durably, what a dead daemon left running, and take up what waits.

        The processes of the dead are gone before this is called. Safe to run again after a crash inside it.
        `began` is the monotonic time at which the start began.
        """
        changes: list[TaskEvent] = []
        commits = []
        for session_id in found.live:
            ledger = self._resident(session_id)
            for task in ledger.tasks.values():
                self._index_needs(task)
            with contextlib.suppress(SessionReadOnly):
                events = self._recovery(ledger)
                changes += events
                if events:
                    commits.append(self.stage(ledger, events))
        await asyncio.gather(*commits)
        for session_id in found.live:
            ledger = self._resident(session_id)
            for task in ledger.tasks.values():
                if not task.terminal:
                    self.runner.changed(task, ledger.session)
        ended = [event for event in changes if isinstance(event, TaskFinished)]
        was_interrupted = [event for event in ended if event.cause.code is CauseCode.INTERRUPTED]
        cancelled = [event for event in ended if event.state is State.CANCELLED]
        requeued = [event for event in changes if isinstance(event, TaskRetried)]
        self.recovered.update(
            interrupted=len(was_interrupted), cancelled=len(cancelled), requeued=len(requeued), killed=killed
        )
        report = AgentRecovered(
            at=self.now(),
            boot_id=self.boot_id,
            clean=not (ended or requeued or killed or found.unclean),
            sessions=found.sessions,
            interrupted=len(was_interrupted),
            requeued=len(requeued),
            cancelled=len(cancelled),
            torn=found.torn,
            damaged=len(found.damaged),
            killed=killed,
            took_s=round(self.clock.monotonic() - began, 6),
        )
        self.announce(report)
        return report

    def _recovery(self, ledger: Ledger) -> list[TaskEvent]:
        at = self.now()
        events: list[TaskEvent] = [
            interrupted(task, at=at, boot_id=self.boot_id)
            for task in ledger.tasks.values()
            if task.state is State.RUNNING
        ]
        # A crash may have cut a batch between an end and what followed from it: ask again for every ended task.
        ended = {task.task_id: task.state for task in ledger.tasks.values() if task.terminal}
        ended |= {event.task_id: event.state for event in events if isinstance(event, TaskFinished)}
        events += self.consequences(ledger, ended)
        settled = {event.task_id for event in events}
        now = self.clock.time()
        # What was due, or had all it needs, while nobody was there to see it.
        ripe = [
            task.task_id
            for task in ledger.tasks.values()
            if task.state is State.WAITING
            and task.task_id not in settled
            and self.due(task) <= now
            and not open_needs(task, ledger.head)
        ]
        return events + [TaskQueued(at=at, task_id=task_id) for task_id in ripe]

    def _resident(self, session_id: str) -> Ledger:
        ledger = self.store.entry(session_id).ledger
        assert ledger is not None, "sessions with live tasks stay in memory"
        return ledger

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
            if ledger.live:
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
        capacity = self.runner.capacity()
        current = tuple(
            task
            for ledger in self.store.resident
            if ledger.counts["running"]
            for task in ledger.tasks.values()
            if task.state is State.RUNNING
        )
        if self.runner.draining:
            state = "draining"
        elif capacity.degraded or self.store.full:
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
            disk=self._disk_facts(),
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

    def _disk_facts(self) -> DiskFacts:
        facts = os.statvfs(self.store.data_dir)
        return DiskFacts(
            free_bytes=facts.f_bavail * facts.f_frsize,
            total_bytes=facts.f_blocks * facts.f_frsize,
            full=self.store.full,
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
