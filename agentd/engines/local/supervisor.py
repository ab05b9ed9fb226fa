"""Keeps the pool's places filled: starts worker processes, hears them, and cleans up after those it loses."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from agentd.clock import Clock, rfc3339
from agentd.config import Workers
from agentd.engines.local import cgroups
from agentd.engines.local.alarms import Alarms
from agentd.engines.local.attempts import Attempts
from agentd.engines.local.losses import Losses
from agentd.engines.local.orphans import Brood, end_strays
from agentd.engines.local.slot import Slot, SlotState
from agentd.engines.local.worker_process import Exited, Fed, Message, Ready, Spawned, WorkerProcess
from agentd.model.events import AgentEvent, WorkerDegraded, WorkerLost, WorkerStarted

#: A worker that is not ready after so many seconds counts as lost.
READY_S = 10.0
#: A busy worker that is silent for so many heartbeats is lost.
SILENT_HEARTBEATS = 3
#: A worker that was let go and has not left after so many seconds is killed.
LEAVE_S = 1.5


class Supervisor:
    """Fills slots with processes. How many there are, and what they run, is the pool's to say.

    `on_idle(slot)`: it is ready, or has ended its attempt. `on_lost(slot)`: it cannot be used any more.
    `on_vacant(slot)`: what it left is gone, and it may be filled again. `on_room()`: the pool may start workers again.
    """

    on_idle: Callable[[Slot], None]
    on_lost: Callable[[Slot], None]
    on_vacant: Callable[[Slot], None]
    on_room: Callable[[], None]
    on_event: Callable[[AgentEvent], None]

    def __init__(
        self, settings: Workers, agent_id: str, clock: Clock, attempts: Attempts, alarms: Alarms, window_s: float
    ) -> None:
        self.slots: dict[str, Slot] = {}
        self.losses = Losses(settings.max_restarts, window_s)
        self._settings = settings
        self._agent_id = agent_id
        self._clock = clock
        self._attempts = attempts
        self._alarms = alarms
        self._brood = Brood()
        self._leaving: set[WorkerProcess] = set()
        self._cleaning: set[asyncio.Task[None]] = set()
        self._cleaner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="agentd-strays")
        self._changed = asyncio.Event()
        self._numbers = 0
        self._closing = False

    def count(self, *states: SlotState) -> int:
        """How many slots are in one of these states."""
        return sum(slot.state in states for slot in self.slots.values())

    # Filling and letting go

    def add(self) -> bool:
        """One more worker; False when none may be started now."""
        if self._closing or self._pausing():
            return False
        self._numbers += 1
        slot = Slot(f"w{self._numbers}")
        self.slots[slot.worker_id] = slot
        return self.fill(slot)

    def fill(self, slot: Slot) -> bool:
        """Start a process for the slot; False when none may be started now, and it stays vacant until one may."""
        if self._pausing():
            slot.state = SlotState.VACANT
            return False
        slot.state = SlotState.STARTING
        slot.started_at = rfc3339(self._clock.time())
        slot.heard_at = self._clock.monotonic()
        slot.tasks_done = 0
        slot.end_reason = ""
        slot.asked_to_restart = False
        self._brood.starting()
        try:
            process = slot.process = WorkerProcess(
                self._agent_id,
                self._settings.heartbeat_s,
                lambda message: self._on_message(slot, message),
                lambda status: self._on_end(slot, process, status),
            )
            slot.pid = process.pid
        except OSError as error:
            self._lost(slot, f"worker {slot.worker_id} could not be started: {error.strerror}")
            return False
        finally:
            self._brood.started(slot.process.pid if slot.process is not None else None)
        self.watch_silence()
        return True

    def retire(self, slot: Slot) -> None:
        """Let a worker go, and give up its place."""
        del self.slots[slot.worker_id]
        process, slot.process = slot.process, None
        if process is not None:
            self._leaving.add(process)
            process.leave()
            asyncio.get_running_loop().call_later(LEAVE_S, process.kill)

    async def restart(self, slot: Slot) -> None:
        """Replace the process of a slot, and return when the next one was started."""
        if slot.process is None:
            return
        restarts = slot.restarts
        slot.asked_to_restart = True
        if slot.state is SlotState.IDLE:
            slot.state = SlotState.LOST  # not to be claimed any more
            self.on_lost(slot)
        slot.process.kill()
        while slot.restarts == restarts and self.slots.get(slot.worker_id) is slot:
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        """Let all go, and return when nothing of them is left."""
        self._closing = True
        for slot in list(self.slots.values()):
            if slot.process is not None:
                self.retire(slot)
        self._changed.set()
        while self._leaving or self._cleaning:
            self._changed.clear()
            await self._changed.wait()
        await asyncio.get_running_loop().run_in_executor(self._cleaner, end_strays, self._brood)
        self._cleaner.shutdown()
        self.slots.clear()
        self._changed.set()

    # News

    def _on_message(self, slot: Slot, message: Message) -> None:
        slot.heard_at = self._clock.monotonic()
        match message:
            case Exited(attempt_id=attempt_id, exit=exit):
                self._attempts.end(attempt_id, exit)
                slot.running = None
                slot.tasks_done += 1
                if slot.state is SlotState.BUSY and not slot.asked_to_restart:
                    self.on_idle(slot)
            case Spawned(attempt_id=attempt_id, pid=pid, pid_started_at=started_at):
                if slot.running is not None and slot.running.launch.attempt_id == attempt_id:
                    slot.running.spawned(pid, started_at)
            case Fed(attempt_id=attempt_id, taken=taken, open=is_open):
                if slot.running is not None and slot.running.launch.attempt_id == attempt_id:
                    slot.running.taken = taken
                    slot.running.input_open &= is_open
            case Ready() if slot.state is SlotState.STARTING:
                self.on_event(WorkerStarted(at=rfc3339(self._clock.time()), worker_id=slot.worker_id, pid=slot.pid))
                self.on_idle(slot)
                self._fill_vacant()

    def _on_end(self, slot: Slot, process: WorkerProcess, status: int | None) -> None:
        """The process has ended: as asked, or lost. One that could not be reaped is a stray like what it left."""
        self._brood.reaped(process.pid)
        self._leaving.discard(process)
        self._changed.set()
        if slot.process is not process:
            return
        slot.process = None
        reason = slot.end_reason
        if slot.asked_to_restart:
            reason = "was restarted on request"
        elif not reason:
            reason = _ended(status)
        self._lost(slot, f"worker {slot.worker_id} (pid {slot.pid}) {reason}")

    def _lost(self, slot: Slot, reason: str) -> None:
        slot.state = SlotState.LOST
        self.on_lost(slot)
        task = asyncio.get_running_loop().create_task(self._clean_up(slot, reason))
        self._cleaning.add(task)
        task.add_done_callback(self._cleaned)

    async def _clean_up(self, slot: Slot, reason: str) -> None:
        """End what the worker left; only then is its attempt over, and its place free."""
        if not await asyncio.get_running_loop().run_in_executor(self._cleaner, end_strays, self._brood):
            reason += "; some of its processes could not be ended"
        running, slot.running = slot.running, None
        if running is not None and running.launch.cgroup is not None:
            group = cgroups.group_of(running.launch.cgroup, running.launch.attempt_id)
            await asyncio.get_running_loop().run_in_executor(self._cleaner, cgroups.remove, group)
        if running is not None:
            self._attempts.end(running.launch.attempt_id, running.lost(reason))
        if self._closing:
            return
        if not slot.asked_to_restart:
            self._count_loss(slot, running.launch.task_id if running is not None else None, reason)
        slot.restarts += 1
        slot.state = SlotState.VACANT
        self.on_vacant(slot)

    def _cleaned(self, task: asyncio.Task[None]) -> None:
        self._cleaning.discard(task)
        self._changed.set()
        task.result()  # an error here is a mistake of ours: the loop's handler logs it

    # Losses

    def _count_loss(self, slot: Slot, task_id: str | None, reason: str) -> None:
        now, at = self._clock.monotonic(), rfc3339(self._clock.time())
        began = self.losses.add(now)
        self.on_event(WorkerLost(at=at, worker_id=slot.worker_id, pid=slot.pid, task_id=task_id, reason=reason))
        if began:
            self.on_event(WorkerDegraded(at=at, degraded=True, restarts=self.losses.total))
        if self.losses.degraded:
            self._alarms.set("heal", self.losses.quiet_at() - now, self._heal)

    def _heal(self) -> None:
        now = self._clock.monotonic()
        if self.losses.heal(now):
            at = rfc3339(self._clock.time())
            self.on_event(WorkerDegraded(at=at, degraded=False, restarts=self.losses.total))
            for slot in list(self.slots.values()):
                if slot.state is SlotState.VACANT:
                    self.fill(slot)
            self.on_room()
        elif self.losses.degraded:
            self._alarms.set("heal", self.losses.quiet_at() - now, self._heal)

    def _pausing(self) -> bool:
        wait_s = self.losses.pause_until - self._clock.monotonic()
        if wait_s > 0:
            self._alarms.set("pause", wait_s, self._after_pause)
        return wait_s > 0

    def _after_pause(self) -> None:
        if not self._fill_vacant():
            self.on_room()

    def _fill_vacant(self) -> bool:
        """Fill one vacant slot, the next when that one is ready; False when there is none."""
        for slot in self.slots.values():
            if slot.state is SlotState.VACANT:
                self.fill(slot)
                return True
        return False

    # Silence

    def watch_silence(self) -> None:
        """From now on a worker that starts or is busy must be heard; nothing is watched while all are idle."""
        self._look_in(self._settings.heartbeat_s)

    def _look_in(self, wait_s: float) -> None:
        expected = self._clock.monotonic() + wait_s
        self._alarms.set("silence", wait_s, lambda: self._check_silence(expected))

    def _check_silence(self, expected: float) -> None:
        """Kill the silent, and look again soon enough to tell a daemon that slept from a worker that is silent."""
        now = self._clock.monotonic()
        next_s = self._settings.heartbeat_s
        slept = now - expected > next_s
        watched = [slot for slot in self.slots.values() if slot.state in (SlotState.STARTING, SlotState.BUSY)]
        for slot in watched:
            process = slot.process
            if process is None:
                continue
            if slept:
                slot.heard_at = now
            allowed_s = SILENT_HEARTBEATS * self._settings.heartbeat_s
            if slot.state is SlotState.STARTING:
                allowed_s = max(allowed_s, READY_S)
            left_s = slot.heard_at + allowed_s - now
            if left_s > 0:
                next_s = min(next_s, left_s)
                continue
            heard_at = slot.heard_at
            process.read()  # after a stop of the daemon, its timers ring before what came meanwhile is read
            if slot.heard_at == heard_at:
                slot.end_reason = f"was silent for {allowed_s:g} s and was killed"
                process.kill()
        if watched:
            self._look_in(next_s)


def _ended(status: int | None) -> str:
    if status is None:
        return "ended while another process traced it"
    code = os.waitstatus_to_exitcode(status)
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"left with exit code {code}"
