"""Drives the engine with what runs next: attempts, due times, timeouts of sessions, the drain.

Nothing is ever scanned for: every change, every free worker and one timer for the next due time ring `_dispatch`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from agentd.budgets import Budgets
from agentd.clock import epoch
from agentd.deadlines import STORAGE_RETRY_S, Deadlines, Pauses, StartTimes
from agentd.engines.protocol import Engine
from agentd.errors import AgentdError, InvalidTransition, SessionReadOnly, StorageFailed
from agentd.kinds.protocol import Place
from agentd.lanes import Lanes, Next
from agentd.model.consequences import open_needs
from agentd.model.events import TaskQueued, TaskSpawned
from agentd.model.launch import Capacity, EndedBy, Exit
from agentd.model.requests import QueueView, Scale, Window, WorkerView
from agentd.model.session import Session
from agentd.model.task import Cause, CauseCode, State, Task
from agentd.queueing import queue_view
from agentd.service import Service
from agentd.store.ledger import Ledger

log = structlog.get_logger()


class Scheduler:
    """The service's runner. All of it lives on the event loop."""

    def __init__(self, service: Service, engine: Engine, place: Callable[[Task, Session], Place]) -> None:
        self.draining = False
        self._service = service
        self._engine = engine
        self._place = place
        self._clock = service.clock
        self._lanes = Lanes(service.settings.workers.queues, self._clock.monotonic)
        self._start_times = StartTimes(self._clock.time, self._look)
        self._pauses = Pauses(self._clock, self._look)
        self._deadlines = Deadlines(service, self._own)
        self._budgets = Budgets(service, self._lanes, self._own)
        self._attempts: dict[str, asyncio.Task[None]] = {}
        self._work: set[asyncio.Task[None]] = set()  #: every asyncio task of this scheduler, attempts among them
        self._open = False
        self._dispatching = False
        self._storage_timer: asyncio.TimerHandle | None = None
        engine.on_free = self._dispatch
        service.runner, service.stdin = self, engine

    def open(self) -> None:
        """Begin to start tasks; until now they were only taken note of."""
        self._open = True
        self._dispatch()

    # ------------------------------------------------------------------ what the service tells

    def changed(self, tasks: Sequence[Task], session: Session) -> None:
        """Take note of the states of tasks on the head; only then start what can start, the best of them first."""
        for task in tasks:
            self._note(task, session)
        if session.policy.budget is not None:
            self._budgets.look(session)
        self._dispatch()

    def _note(self, task: Task, session: Session) -> None:
        if task.state is State.RUNNING:
            self._pauses.forget(task.task_id)
            self._lanes.run(task, session.policy.max_parallel, self._service.kinds.exclusive(task))
        elif task.state is State.QUEUED and not self._pauses.put_off(task):
            self._lanes.queue(task, session.policy.max_parallel, self._service.kinds.exclusive(task))
        else:
            self._lanes.drop(task)
            if task.state is State.WAITING:
                if task.not_before is not None:
                    self._start_times.look_at(task, epoch(task.not_before))
            elif task.terminal:
                self._start_times.forget(task.task_id)
                self._pauses.forget(task.task_id)
        if session.policy.timeout_s is not None and not task.terminal:
            self._deadlines.arm(session)

    def session_changed(self, session: Session) -> None:
        """Take note of another policy."""
        self._lanes.limit(session.session_id, session.policy.max_parallel)
        self._deadlines.disarm(session.session_id)
        self._deadlines.arm(session)
        self._budgets.look(session)
        self._dispatch()

    def stop(self, task: Task) -> None:
        """End the processes of a task whose intent to stop is durable."""
        self._engine.stop(task.attempt_id)

    def rolled_back(self, ledger: Ledger) -> None:
        """Take the durable tasks as the truth again, and try to go on a little later."""
        session = ledger.session
        self._lanes.forget(session.session_id)
        later = self._clock.time() + STORAGE_RETRY_S
        for task in ledger.tasks.values():
            # What has an attempt runs, or will be told of when its claim fails; what runs and has none has just ended.
            if task.state is State.RUNNING or task.task_id in self._attempts:
                self._lanes.run(task, session.policy.max_parallel, self._service.kinds.exclusive(task))
            elif task.state is State.QUEUED:
                if not self._pauses.put_off(task):
                    self._lanes.queue(task, session.policy.max_parallel, self._service.kinds.exclusive(task))
            elif task.state is State.WAITING:
                start = epoch(task.not_before) if task.not_before is not None else 0.0
                self._start_times.look_at(task, max(start, later))
        self._budgets.look(session)  # of what runs, as the lanes now know it
        if self._storage_timer is None:
            loop = asyncio.get_running_loop()
            self._storage_timer = loop.call_later(STORAGE_RETRY_S, self._storage_retry)

    def _storage_retry(self) -> None:
        self._storage_timer = None
        self._dispatch()

    def forget(self, session_id: str) -> None:
        """Drop the lane of a deleted session."""
        self._lanes.forget(session_id)
        self._deadlines.disarm(session_id)
        self._budgets.forget(session_id)

    def _dispatch(self) -> None:
        if not self._open or self.draining or self._dispatching or self._storage_timer is not None:
            return
        self._dispatching = True  # staging a start tells `changed`, which would come back here
        try:
            self._engine.lend(self._lanes.delegating())
            while (following := self._lanes.next()) is not None:
                worker_id = self._engine.claim()
                if worker_id is None:
                    return
                self._start(following, worker_id)
        finally:
            self._dispatching = False

    # ------------------------------------------------------------------ one attempt

    def _start(self, following: Next, worker_id: str) -> None:
        self._lanes.take(following)
        session_id, task_id = following.session_id, following.task_id
        ledger = self._service.store.in_memory(session_id)
        task = ledger.head(task_id) if ledger is not None else None
        if ledger is None or task is None or task.state is not State.QUEUED:
            self._engine.release(worker_id)
            return
        try:
            claimed = self._service.start_attempt(ledger, task, worker_id, self._clock.monotonic() - following.since)
        except (InvalidTransition, SessionReadOnly) as error:
            # It is read-only: `rolled_back` takes up what it has once it is not.
            log.warning("task.not_started", session_id=session_id, task_id=task_id, reason=error.detail)
            self._engine.release(worker_id)
            return
        self._attempts[task_id] = self._own(self._attempt(ledger, task_id, worker_id, claimed))

    async def _attempt(self, ledger: Ledger, task_id: str, worker_id: str, claimed: asyncio.Future[None]) -> None:
        try:
            await claimed
        except (StorageFailed, SessionReadOnly):
            # Nothing was launched and nothing recorded: the task is what it was before.
            if self._attempts.get(task_id) is asyncio.current_task():
                del self._attempts[task_id]
            self._engine.release(worker_id)
            if (before := ledger.head(task_id)) is not None:
                self.changed([before], ledger.head_session)
            return
        task = ledger.tasks[task_id]
        exit = await self._service.collected(task, await self._executed(ledger, task, worker_id))
        while True:
            current = ledger.head(task_id)
            assert current is not None
            # The attempt is over for this scheduler: its retry is a new one.
            self._attempts.pop(task_id, None)
            try:
                await self._service.end_attempt(ledger, task_id, exit, self._service.kinds.outcome(current, exit))
                return
            except (StorageFailed, SessionReadOnly):
                # The end is known and cannot be written: it is kept here until there is room.
                this = asyncio.current_task()
                assert this is not None
                self._attempts[task_id] = this
                await asyncio.sleep(STORAGE_RETRY_S)

    async def _executed(self, ledger: Ledger, task: Task, worker_id: str) -> Exit:
        head = ledger.head(task.task_id)
        if head is not None and head.stop_cause is not None:
            self._engine.release(worker_id)
            return Exit(ended_by=EndedBy.STOPPED, message="stopped before it was launched")
        try:
            launch = self._service.kinds.launch(task, self._place(task, ledger.head_session))
        except Exception as error:  # also a fault of the kind: a task that runs nothing must not look as if it did
            self._engine.release(worker_id)
            fault = not isinstance(error, (AgentdError, OSError))
            log.warning("task.not_launched", task_id=task.task_id, reason=str(error), exc_info=fault)
            return Exit(ended_by=EndedBy.SPAWN_FAILED, message=str(error) or repr(error))
        attempt = task.attempt

        def spawned(pid: int, pid_started_at: int) -> None:
            event = TaskSpawned(
                at=self._service.now(),
                task_id=task.task_id,
                attempt=attempt,
                pid=pid,
                pid_started_at=pid_started_at,
            )
            with contextlib.suppress(InvalidTransition, SessionReadOnly):
                self._service.stage(ledger, [event], lazily=True)

        return await self._engine.start(worker_id, launch, spawned)

    # ------------------------------------------------------------------ time

    def _look(self, session_id: str, task_id: str) -> None:
        """The task's start time has come."""
        ledger = self._service.store.in_memory(session_id)
        task = ledger.head(task_id) if ledger is not None else None
        if ledger is None or task is None:
            return
        if task.state is State.QUEUED:
            self.changed([task], ledger.head_session)
        elif task.state is State.WAITING and not open_needs(task, ledger.head):
            if self._service.due(task) > self._clock.time():
                self.changed([task], ledger.head_session)
                return
            with contextlib.suppress(InvalidTransition, SessionReadOnly):
                self._service.stage(ledger, [TaskQueued(at=self._service.now(), task_id=task_id)])

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._owned)
        return task

    def _owned(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("scheduler.failed", exc_info=error)

    # ------------------------------------------------------------------ drain

    async def drain(self, drain_s: float, limit_s: float, hurry: asyncio.Event) -> None:
        """Start nothing more; give running tasks `drain_s`, then end them with cause `shutdown` within `limit_s`.

        `hurry` cuts the first wait short.
        """
        self.draining = True
        if self._work and drain_s > 0:
            all_done = asyncio.gather(*self._work, return_exceptions=True)
            cut = asyncio.ensure_future(hurry.wait())
            either: set[asyncio.Future[Any]] = {all_done, cut}
            await asyncio.wait(either, timeout=drain_s, return_when=asyncio.FIRST_COMPLETED)
            cut.cancel()
        if self._attempts:
            cause = Cause(code=CauseCode.SHUTDOWN, message=f"the daemon stopped; it had {drain_s:g} s to end by itself")
            stops = [
                self._service.stop_running(ledger, running, cause)
                for ledger in self._service.store.resident
                if (running := [task for task in ledger.tasks.values() if task.state is State.RUNNING])
            ]
            await asyncio.gather(*stops, return_exceptions=True)  # a disk that refuses must not hold the stop up
        if self._work:
            await asyncio.wait(self._work, timeout=limit_s)
        self._deadlines.close()
        self._budgets.close()
        self._start_times.close()
        self._pauses.close()
        if self._storage_timer is not None:
            self._storage_timer.cancel()
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    # ------------------------------------------------------------------ what is asked

    def queue(self, window: Window) -> QueueView:
        """Everything queued or waiting, in the order it would run, with what each waits for."""
        return queue_view(
            (ledger for ledger in self._service.store.resident if ledger.live),
            self._lanes,
            window,
            capacity=self._engine.capacity(),
            draining=self.draining,
            now=self._clock.time(),
        )

    def held(self, session_id: str) -> str | None:
        """Why nothing more of the session starts: it has used up its budget."""
        return self._lanes.held(session_id)

    def capacity(self) -> Capacity:
        """What the engine can run."""
        return self._engine.capacity()

    def workers(self) -> Sequence[WorkerView]:
        """Every worker."""
        return self._engine.workers()

    async def restart_worker(self, worker_id: str) -> WorkerView:
        """Replace a worker; what it runs ends as worker_lost."""
        return await self._engine.restart_worker(worker_id)

    def scale(self, scale: Scale) -> Capacity:
        """Change the pool's bounds."""
        return self._engine.scale(scale.min, scale.max)
