"""The local engine: an elastic pool of worker processes on this machine.

Everything here runs on the event loop and never blocks it; what a lost worker leaves behind is ended in a thread.
Nothing is polled: sockets and pidfds bring the news, and timers exist only while something is due.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from agentd.clock import Clock, rfc3339
from agentd.config import Workers
from agentd.engines.local import process_tree
from agentd.engines.local.losses import Losses
from agentd.engines.local.orphans import Brood, end_strays
from agentd.engines.local.slot import Attempt, Slot, SlotState
from agentd.engines.local.worker_process import Alive, Exited, Message, Ready, Spawned, WorkerProcess, encoded_run
from agentd.errors import Invalid, WorkerNotFound
from agentd.model.events import AgentEvent, WorkerDegraded, WorkerLost, WorkerStarted
from agentd.model.launch import Capacity, EndedBy, Exit, Launch
from agentd.model.requests import WorkerView

#: Workers that start at the same time, at most: each needs some 20 ms of a processor.
STARTING_MOST = 8
#: A worker that is not ready after so many seconds counts as lost.
READY_S = 10.0
#: A busy worker that is silent for so many heartbeats is lost.
SILENT_HEARTBEATS = 3
#: A worker that was let go and has not left after so many seconds is killed.
LEAVE_S = 3.0
#: Ended attempts whose exit is remembered, so that a second start of one runs nothing.
REMEMBERED = 1000


class LocalEngine:
    """Runs launches under supervised workers; see `engines/protocol.py` for what each method promises."""

    def __init__(
        self, settings: Workers, agent_id: str, boot_id: str, clock: Clock, *, losses_window_s: float = 60.0
    ) -> None:
        self.on_free: Callable[[], None] = _nobody
        self.on_event: Callable[[AgentEvent], None] = _nobody_hears
        self.boot_id = boot_id
        self._settings = settings
        self._agent_id = agent_id
        self._clock = clock
        self._min = settings.min
        self._max = max(settings.min, settings.max)
        self._slots: dict[str, Slot] = {}
        self._idle: list[Slot] = []  # the last one used is the first one taken: the others can age and go
        self._attempts: dict[str, Attempt] = {}
        self._ended: OrderedDict[str, Exit] = OrderedDict()
        self._leaving: set[WorkerProcess] = set()
        self._brood = Brood()
        self._losses = Losses(settings.max_restarts, losses_window_s)
        self._burst = 1
        self._numbers = 0
        self._closing = False
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._cleaning: set[asyncio.Task[None]] = set()
        self._cleaner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tree")
        self._changed = asyncio.Event()

    # The protocol

    async def open(self) -> None:
        """Start what is kept ready; returns without waiting for it.

        Raises:
            OSError: the system cannot make this process the parent of what its workers leave.
        """
        process_tree.become_subreaper()
        self._keep_minimum()

    def claim(self) -> str | None:
        """Reserve an idle worker and name it; None when there is none now (the pool then grows if it may)."""
        if self._closing:
            return None
        if not self._idle:
            self._grow()
            return None
        slot = self._idle.pop()
        slot.state = SlotState.CLAIMED
        return slot.worker_id

    def release(self, worker_id: str) -> None:
        """Give a claimed worker back unused."""
        slot = self._slots.get(worker_id)
        if slot is not None and slot.state is SlotState.CLAIMED:
            self._set_idle(slot)

    def start(self, worker_id: str, launch: Launch, on_spawned: Callable[[int, int], None]) -> asyncio.Future[Exit]:
        """Run the launch on the claimed worker; idempotent by attempt id."""
        known = self._attempts.get(launch.attempt_id)
        ended = self._ended.get(launch.attempt_id)
        if known is not None or ended is not None:
            self.release(worker_id)
            return known.future if known is not None else _resolved(ended)
        slot = self._slots.get(worker_id)
        if slot is None or slot.state is not SlotState.CLAIMED or slot.process is None:
            return self._remember(
                launch.attempt_id,
                Exit(ended_by=EndedBy.WORKER_LOST, message=f"worker {worker_id} was lost before the launch reached it"),
            )
        try:
            message = encoded_run(launch)
        except UnicodeEncodeError as error:
            self.release(worker_id)
            return self._remember(
                launch.attempt_id, Exit(ended_by=EndedBy.SPAWN_FAILED, message=f"not valid Unicode: {error}")
            )
        attempt = Attempt(launch, asyncio.get_running_loop().create_future(), on_spawned)
        self._attempts[launch.attempt_id] = attempt
        slot.attempt = attempt
        slot.state = SlotState.BUSY
        slot.heard_at = self._clock.monotonic()
        slot.process.send(message)
        self._watch_silence()
        return attempt.future

    def attach(self, attempt_id: str) -> asyncio.Future[Exit]:
        """The future of an attempt that runs now.

        Raises:
            KeyError: the engine does not run it.
        """
        return self._attempts[attempt_id].future

    def stop(self, attempt_id: str, grace_s: float | None = None) -> None:
        """Ask the attempt's tree to end. Again: no effect, except that a shorter grace overrules."""
        for slot in self._slots.values():
            attempt = slot.attempt
            if attempt is not None and attempt.launch.attempt_id == attempt_id and slot.process is not None:
                slot.process.stop(attempt_id, attempt.launch.grace_s if grace_s is None else max(0.0, grace_s))

    def capacity(self) -> Capacity:
        """What it can run now."""
        states = [slot.state for slot in self._slots.values()]
        return Capacity(
            max=self._max,
            busy=states.count(SlotState.BUSY) + states.count(SlotState.CLAIMED),
            idle=len(self._idle),
            starting=states.count(SlotState.STARTING),
            restarts=self._losses.total,
            degraded=self._losses.degraded,
        )

    def workers(self) -> Sequence[WorkerView]:
        """Every worker."""
        return [slot.view() for slot in self._slots.values()]

    async def restart_worker(self, worker_id: str) -> WorkerView:
        """Replace a worker; what it runs ends as worker_lost.

        Raises:
            WorkerNotFound: no such worker.
        """
        slot = self._slots.get(worker_id)
        if slot is None:
            raise WorkerNotFound(f"no worker {worker_id}; GET /workers names those there are")
        if slot.process is not None:
            before = slot.restarts
            slot.asked_to_restart = True
            if slot in self._idle:
                self._idle.remove(slot)
                slot.state = SlotState.LOST  # not to be claimed any more
            slot.process.kill()
            while slot.restarts == before and self._slots.get(worker_id) is slot and not self._closing:
                self._changed.clear()
                await self._changed.wait()
        return slot.view()

    def scale(self, minimum: int | None, maximum: int | None) -> Capacity:
        """Change the bounds of the pool; busy workers beyond them leave when done.

        Raises:
            Invalid: the minimum would be above the maximum.
        """
        low = self._min if minimum is None else minimum
        high = self._max if maximum is None else maximum
        if low < 0 or high < 1 or low > high:
            raise Invalid.field("min", f"must be 0 to max; min {low} and max {high} do not fit")
        self._min, self._max = low, high
        while len(self._slots) > self._max and self._idle:
            self._retire(self._idle.pop(0))
        self._keep_minimum()
        self._watch_idle()
        self.on_free()  # there may be room to grow
        return self.capacity()

    async def close(self) -> None:
        """Let idle workers go. The caller has stopped all attempts before."""
        if self._closing:
            return
        self._closing = True
        for handle in self._timers.values():
            handle.cancel()
        self._timers.clear()
        self._idle.clear()
        for slot in list(self._slots.values()):
            if slot.state is not SlotState.LOST or slot.process is not None:
                self._retire(slot)
        loop = asyncio.get_running_loop()
        kill = loop.call_later(LEAVE_S, self._kill_leaving)
        while self._leaving or self._cleaning:
            self._changed.clear()
            await self._changed.wait()
        kill.cancel()
        await loop.run_in_executor(self._cleaner, end_strays, self._brood)
        self._cleaner.shutdown()
        for attempt_id in list(self._attempts):
            self._resolve(attempt_id, Exit(ended_by=EndedBy.WORKER_LOST, message="the engine was closed under it"))
        self._slots.clear()

    # Growing and shrinking

    def _grow(self) -> None:
        """One more is wanted. Unmet wishes double what is started at once, so that a crowd is soon served."""
        if any(slot.state is SlotState.STARTING for slot in self._slots.values()):
            return
        for _ in range(min(self._burst, self._max - len(self._slots))):
            if not self._start_worker():
                return
        self._burst = min(self._burst * 2, STARTING_MOST)

    def _keep_minimum(self) -> None:
        """Start workers up to the minimum, some at a time; each that becomes ready calls for the next."""
        starting = sum(slot.state is SlotState.STARTING for slot in self._slots.values())
        while not self._closing and len(self._slots) < self._min and starting < STARTING_MOST:
            if not self._start_worker():
                return
            starting += 1

    def _start_worker(self) -> bool:
        """Add a worker; False when the pool is degraded and pauses."""
        if self._pausing():
            return False
        self._numbers += 1
        slot = Slot(f"w{self._numbers}")
        self._slots[slot.worker_id] = slot
        return self._spawn(slot)

    def _pausing(self) -> bool:
        wait_s = self._losses.pause_until - self._clock.monotonic()
        if wait_s > 0:
            self._at("resume", wait_s, self._resume)
        return wait_s > 0

    def _resume(self) -> None:
        """The pause is over: try one, and the rest when it is ready."""
        waiting = [slot for slot in self._slots.values() if slot.state is SlotState.LOST and slot.process is None]
        if waiting:
            if not self._pausing():
                self._spawn(waiting[0])
        else:
            self._keep_minimum()
            self.on_free()

    def _spawn(self, slot: Slot) -> bool:
        slot.state = SlotState.STARTING
        slot.started_at = rfc3339(self._clock.time())
        slot.tasks_done = 0
        slot.asked_to_restart = False
        slot.heard_at = self._clock.monotonic()
        self._brood.starting()
        try:
            slot.process = WorkerProcess(
                self._agent_id,
                self._settings.heartbeat_s,
                lambda message: self._on_message(slot, message),
                lambda status: self._on_end(slot, status),
            )
        except OSError as error:
            self._lost(slot, f"could not be started: {error.strerror}")
            return False
        finally:
            self._brood.started(slot.process.pid if slot.process is not None else None)
        slot.pid = slot.process.pid
        self._watch_silence()
        return True

    def _set_idle(self, slot: Slot) -> None:
        """The worker has nothing to do: keep it, or let it go if it is old or one too many."""
        slot.attempt = None
        worn = slot.tasks_done >= self._settings.max_tasks
        if worn or len(self._slots) > self._max:
            self._retire(slot)
            if worn and len(self._slots) < self._max:
                self._start_worker()
            return
        slot.state = SlotState.IDLE
        slot.idle_at = self._clock.monotonic()
        self._idle.append(slot)
        self.on_free()
        self._watch_idle()

    def _retire(self, slot: Slot) -> None:
        del self._slots[slot.worker_id]
        process = slot.process
        if process is None:
            return
        slot.process = None
        slot.retired = process
        self._leaving.add(process)
        process.leave()
        if not self._closing:
            asyncio.get_running_loop().call_later(LEAVE_S, process.kill)

    def _watch_idle(self) -> None:
        if self._idle and len(self._slots) > self._min and "idle" not in self._timers:
            oldest = self._idle[0].idle_at + self._settings.idle_s
            self._at("idle", oldest - self._clock.monotonic(), self._retire_idle)

    def _retire_idle(self) -> None:
        latest = self._clock.monotonic() - self._settings.idle_s
        while self._idle and len(self._slots) > self._min and self._idle[0].idle_at <= latest:
            self._retire(self._idle.pop(0))
        self._burst = 1
        self._watch_idle()

    # News from the workers

    def _on_message(self, slot: Slot, message: Message) -> None:
        slot.heard_at = self._clock.monotonic()
        match message:
            case Ready():
                self._on_ready(slot)
            case Spawned(attempt_id=attempt_id, pid=pid, pid_started_at=started) if slot.attempt is not None:
                if slot.attempt.launch.attempt_id == attempt_id:
                    slot.attempt.pid, slot.attempt.pid_started_at = pid, started
                    slot.attempt.on_spawned(pid, started)
            case Exited(attempt_id=attempt_id, exit=end):
                self._resolve(attempt_id, end)
                slot.tasks_done += 1
                if slot.state is SlotState.BUSY:
                    self._set_idle(slot)
            case Alive() | Spawned():
                pass

    def _on_ready(self, slot: Slot) -> None:
        if slot.state is not SlotState.STARTING:
            return
        assert slot.process is not None
        self.on_event(WorkerStarted(at=rfc3339(self._clock.time()), worker_id=slot.worker_id, pid=slot.process.pid))
        self._set_idle(slot)
        if self._idle:
            self._burst = 1  # nobody wanted it
        self._resume_waiting()
        self._keep_minimum()

    def _resume_waiting(self) -> None:
        if self._losses.degraded and "resume" not in self._timers:
            self._resume()

    def _on_end(self, slot: Slot, status: int) -> None:
        """The process is reaped: as asked, or lost."""
        self._brood.reaped(slot.pid)
        if slot.process is None:
            if slot.retired is not None:
                self._leaving.discard(slot.retired)
            self._changed.set()
            return
        slot.process = None
        code = os.waitstatus_to_exitcode(status)
        if slot.asked_to_restart:
            reason = "was restarted on request"
        elif slot.silent:
            reason = f"was silent for {SILENT_HEARTBEATS} heartbeats and was killed"
        else:
            reason = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"left with exit code {code}"
        self._lost(slot, reason)

    def _lost(self, slot: Slot, reason: str) -> None:
        """A worker is gone that should not be: end what it left, then tell, then start another."""
        if slot in self._idle:
            self._idle.remove(slot)
        slot.state = SlotState.LOST
        task = asyncio.get_running_loop().create_task(self._clean_up(slot, reason))
        self._cleaning.add(task)
        task.add_done_callback(self._cleaned)

    def _cleaned(self, task: asyncio.Task[None]) -> None:
        self._cleaning.discard(task)
        self._changed.set()

    async def _clean_up(self, slot: Slot, reason: str) -> None:
        attempt, slot.attempt = slot.attempt, None
        text = f"worker {slot.worker_id} (pid {slot.pid}) {reason}"
        if slot.pid:
            gone = await asyncio.get_running_loop().run_in_executor(self._cleaner, end_strays, self._brood)
            if not gone:
                text += "; some of its processes could not be ended"
        if attempt is not None:
            self._resolve(attempt.launch.attempt_id, attempt.lost(text))
        if self._closing:
            return
        now = self._clock.monotonic()
        at = rfc3339(self._clock.time())
        degraded = False
        if not slot.asked_to_restart:
            degraded = self._losses.add(now)
            task_id = attempt.launch.task_id if attempt is not None else None
            self.on_event(WorkerLost(at=at, worker_id=slot.worker_id, pid=slot.pid, task_id=task_id, reason=text))
        if degraded:
            self.on_event(WorkerDegraded(at=at, degraded=True, restarts=self._losses.total))
        if self._losses.degraded:
            self._at("heal", self._losses.quiet_at() - now, self._heal)
        self._replace(slot)

    def _replace(self, slot: Slot) -> None:
        slot.restarts += 1
        slot.silent = False
        if len(self._slots) > self._max:
            del self._slots[slot.worker_id]
        elif not self._pausing():
            self._spawn(slot)
        self._changed.set()

    def _heal(self) -> None:
        now = self._clock.monotonic()
        if self._losses.heal(now):
            at = rfc3339(self._clock.time())
            self.on_event(WorkerDegraded(at=at, degraded=False, restarts=self._losses.total))
            for slot in list(self._slots.values()):
                if slot.state is SlotState.LOST and slot.process is None:
                    self._spawn(slot)
            self._keep_minimum()
            self.on_free()
        elif self._losses.degraded:
            self._at("heal", self._losses.quiet_at() - now, self._heal)

    def _watch_silence(self) -> None:
        if "silence" not in self._timers:
            wait_s = SILENT_HEARTBEATS * self._settings.heartbeat_s
            self._at("silence", wait_s, self._check_silence, self._clock.monotonic() + wait_s)

    def _check_silence(self, expected: float) -> None:
        """Kill busy workers that say nothing. If this comes late, it was the daemon that slept, not they."""
        most = SILENT_HEARTBEATS * self._settings.heartbeat_s
        late = self._clock.monotonic() - expected > self._settings.heartbeat_s
        watched = False
        for slot in list(self._slots.values()):
            if slot.process is None or slot.state not in (SlotState.BUSY, SlotState.STARTING):
                continue
            slot.process.read()
            now = self._clock.monotonic()
            if late:
                slot.heard_at = now
            allowed = most if slot.state is SlotState.BUSY else max(most, READY_S)
            if now - slot.heard_at >= allowed and slot.process is not None:
                slot.silent = True
                slot.process.kill()
            watched = True
        if watched:
            self._watch_silence()

    # Small things

    def _resolve(self, attempt_id: str, end: Exit) -> None:
        attempt = self._attempts.pop(attempt_id, None)
        if attempt is None:
            return
        self._remember(attempt_id, end)
        if not attempt.future.done():
            attempt.future.set_result(end)

    def _remember(self, attempt_id: str, end: Exit) -> asyncio.Future[Exit]:
        self._ended[attempt_id] = end
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
        return _resolved(end)

    def _kill_leaving(self) -> None:
        for process in self._leaving:
            process.kill()

    def _at(self, name: str, wait_s: float, call: Callable[..., None], *args: object) -> None:
        """Call once, later; a timer of the same name that is set already stays."""
        if name in self._timers or self._closing:
            return

        def ring() -> None:
            del self._timers[name]
            call(*args)

        self._timers[name] = asyncio.get_running_loop().call_later(max(0.0, wait_s), ring)


def _resolved(end: Exit | None) -> asyncio.Future[Exit]:
    assert end is not None
    future: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
    future.set_result(end)
    return future


def _nobody() -> None:
    """Until the scheduler sets `on_free`."""


def _nobody_hears(event: AgentEvent) -> None:
    """Until the daemon sets `on_event`."""
