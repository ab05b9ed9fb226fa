"""The local engine: an elastic pool of worker processes on this machine.

Everything here runs on the event loop and never blocks it. Nothing is polled: sockets and pidfds bring the news, and
timers exist only while something is due. A process has one LocalEngine: what is adopted when a worker dies is its.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from agentd.clock import Clock
from agentd.config import Workers
from agentd.engines.local.alarms import Alarms
from agentd.engines.local.attempts import Attempts, Running
from agentd.engines.local.process_tree import become_subreaper
from agentd.engines.local.slot import Slot, SlotState
from agentd.engines.local.supervisor import Supervisor
from agentd.engines.local.worker_process import WorkerProcess, encoded_run
from agentd.errors import Conflict, InputFull, Invalid, WorkerNotFound
from agentd.model.events import AgentEvent
from agentd.model.launch import Capacity, EndedBy, Exit, Launch
from agentd.model.requests import WorkerView

#: What an attempt may be given before it reads, in bytes.
INPUT_MOST = 1 << 20
#: Workers that start at the same time, at most: each needs some 20 ms of a processor.
STARTING_MOST = 8


class LocalEngine:
    """Runs launches under supervised workers; `engines/protocol.py` says what each method promises.

    More than `settings.max_restarts` lost workers within `losses_window_s` seconds make it degraded.
    """

    def __init__(
        self, settings: Workers, agent_id: str, boot_id: str, clock: Clock, *, losses_window_s: float = 60.0
    ) -> None:
        self.on_free: Callable[[], None] = _nobody
        self.on_event: Callable[[AgentEvent], None] = _nobody_hears
        self.boot_id = boot_id
        self._settings = settings
        self._clock = clock
        self._min = settings.min
        self._max = max(settings.min, settings.max)
        self._lent = 0
        self._idle: list[Slot] = []  # the last one used is the first one taken: the others age, and go
        self._burst = 1
        self._closing = False
        self._alarms = Alarms()
        self._attempts = Attempts()
        self._supervisor = Supervisor(settings, agent_id, clock, self._attempts, self._alarms, losses_window_s)
        self._supervisor.on_idle = self._on_idle
        self._supervisor.on_lost = self._on_lost
        self._supervisor.on_vacant = self._on_vacant
        self._supervisor.on_room = self._on_room
        self._supervisor.on_event = lambda event: self.on_event(event)
        self._slots = self._supervisor.slots

    async def open(self) -> None:
        """Start what is kept ready; returns without waiting for it.

        Raises:
            OSError: the system cannot make this process the parent of what its workers leave.
        """
        become_subreaper()
        self._keep_minimum()

    def claim(self) -> str | None:
        """Reserve an idle worker and name it; None when there is none now (the pool then grows if it may)."""
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
            self._on_idle(slot)

    def start(self, worker_id: str, launch: Launch, on_spawned: Callable[[int, int], None]) -> asyncio.Future[Exit]:
        """Run the launch on the claimed worker; idempotent by attempt id.

        The log exists once there is output or the attempt is older than some 10 ms, the index once there is output.
        A directory for them that cannot be written is a failed spawn; a disk that fails later costs output, which
        the exit's message counts.
        """
        known = self._attempts.known(launch.attempt_id)
        if known is not None:
            self.release(worker_id)
            return known
        slot = self._slots.get(worker_id)
        if slot is None or slot.state is not SlotState.CLAIMED or slot.process is None:
            text = f"worker {worker_id} was lost before the launch reached it"
            return self._attempts.end(launch.attempt_id, Exit(ended_by=EndedBy.WORKER_LOST, message=text))
        try:
            message = encoded_run(launch)
        except UnicodeEncodeError as error:
            self.release(worker_id)
            text = f"argv, env or a path is not valid Unicode: {error}"
            return self._attempts.end(launch.attempt_id, Exit(ended_by=EndedBy.SPAWN_FAILED, message=text))
        slot.running = self._attempts.begin(launch, on_spawned)
        slot.state = SlotState.BUSY
        slot.heard_at = self._clock.monotonic()
        slot.process.send(message)
        self._supervisor.watch_silence()
        return slot.running.future

    def attach(self, attempt_id: str) -> asyncio.Future[Exit]:
        """The future of an attempt that runs now.

        Raises:
            KeyError: the engine does not run it.
        """
        return self._attempts.running(attempt_id)

    def stop(self, attempt_id: str, grace_s: float | None = None) -> None:
        """Ask the attempt's tree to end. Again: no effect, but that a shorter grace overrules a longer one."""
        for slot in self._slots.values():
            if slot.running is not None and slot.running.launch.attempt_id == attempt_id and slot.process is not None:
                slot.process.stop(attempt_id, slot.running.launch.grace_s if grace_s is None else max(0.0, grace_s))

    def input(self, attempt_id: str, data: bytes, *, eof: bool) -> int:
        """Hand an interactive attempt more to read; how many bytes its worker still holds for it.

        Raises:
            KeyError: the engine does not run it.
            Conflict: it is not interactive, or its input is closed.
            InputFull: it does not read what it was given before.
        """
        running, process = self._spoken_to(attempt_id)
        if not running.launch.interactive:
            raise Conflict("it is not interactive; submit it with interactive: true")
        if not running.input_open:
            raise Conflict("its input is closed")
        waiting = running.sent - running.taken + len(data)
        if waiting > INPUT_MOST:
            raise InputFull(f"it has not read {running.sent - running.taken} bytes yet; try again when it has")
        running.sent += len(data)
        running.input_open = not eof
        process.input(attempt_id, data, eof)
        return waiting

    def resize(self, attempt_id: str, rows: int, columns: int) -> None:
        """Change the size of an attempt's terminal.

        Raises:
            KeyError: the engine does not run it.
            Conflict: it has none, or one that is not interactive.
        """
        running, process = self._spoken_to(attempt_id)
        if not (running.launch.tty and running.launch.interactive):
            raise Conflict("it has no interactive terminal; submit it with interactive and tty")
        process.resize(attempt_id, rows, columns)

    def _spoken_to(self, attempt_id: str) -> tuple[Running, WorkerProcess]:
        for slot in self._slots.values():
            running, process = slot.running, slot.process
            if running is not None and process is not None and running.launch.attempt_id == attempt_id:
                return running, process
        raise KeyError(attempt_id)

    def capacity(self) -> Capacity:
        """What it can run now."""
        return Capacity(
            max=self._max,
            busy=self._supervisor.count(SlotState.BUSY, SlotState.CLAIMED),
            idle=len(self._idle),
            starting=self._supervisor.count(SlotState.STARTING),
            restarts=self._supervisor.losses.total,
            degraded=self._supervisor.losses.degraded,
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
        await self._supervisor.restart(slot)
        return slot.view()

    def scale(self, minimum: int | None, maximum: int | None) -> Capacity:
        """Change the bounds of the pool; busy workers beyond them leave when done.

        Raises:
            Invalid: the minimum would be above the maximum.
        """
        low = self._min if minimum is None else minimum
        high = self._max if maximum is None else maximum
        if low < 0 or high < 1 or low > high:
            raise Invalid.field("min", f"must be from 0 to max; min {low} with max {high} is not")
        self._min, self._max = low, high
        self._shrink()
        self._watch_age()
        self._on_room()
        return self.capacity()

    def lend(self, waiting: int) -> None:
        """So many of those that run only wait for others, for which as many more may run."""
        if waiting != self._lent:
            self._lent = waiting
            self._shrink()

    async def close(self) -> None:
        """Let idle workers go. The caller has stopped all attempts before; what runs all the same ends as lost."""
        if self._closing:
            return
        self._closing = True
        self._alarms.off()
        self._idle.clear()
        await self._supervisor.close()
        self._attempts.end_all("the engine was closed while it ran")

    # How many there are

    @property
    def _most(self) -> int:
        return self._max + self._lent

    def _shrink(self) -> None:
        while len(self._slots) > self._most and self._idle:
            self._supervisor.retire(self._idle.pop(0))

    def _grow(self) -> None:
        """One more is wanted. Wishes that stay unmet double what is started at once: a crowd is soon served."""
        if self._supervisor.count(SlotState.STARTING):
            return
        for _ in range(min(self._burst, self._most - len(self._slots))):
            if not self._supervisor.add():
                return
        self._burst = min(self._burst * 2, STARTING_MOST)

    def _keep_minimum(self) -> None:
        """Start workers up to the minimum, some at a time; each that becomes ready calls for the next."""
        room = min(self._min - len(self._slots), STARTING_MOST - self._supervisor.count(SlotState.STARTING))
        for _ in range(room):
            if not self._supervisor.add():
                return

    def _on_idle(self, slot: Slot) -> None:
        """A worker has nothing to do: keep it, or let it go if it is worn or one too many."""
        if self._closing:
            return
        worn = slot.tasks_done >= self._settings.max_tasks
        if worn or len(self._slots) > self._most:
            self._supervisor.retire(slot)
            if worn and len(self._slots) < self._most:
                self._supervisor.add()
            return
        fresh = slot.state is SlotState.STARTING
        slot.state = SlotState.IDLE
        slot.idle_at = self._clock.monotonic()
        self._idle.append(slot)
        self.on_free()
        if fresh:
            if self._idle:
                self._burst = 1  # nobody waits any more
            self._keep_minimum()
        self._watch_age()

    def _on_lost(self, slot: Slot) -> None:
        if slot in self._idle:
            self._idle.remove(slot)

    def _on_vacant(self, slot: Slot) -> None:
        if len(self._slots) > self._most:
            self._supervisor.retire(slot)
        else:
            self._supervisor.fill(slot)

    def _on_room(self) -> None:
        self._keep_minimum()
        self.on_free()

    def _watch_age(self) -> None:
        """While there are idle workers beyond the minimum, see to it that they leave in time."""
        if self._idle and len(self._slots) > self._min:
            wait_s = self._idle[0].idle_at + self._settings.idle_s - self._clock.monotonic()
            self._alarms.set("age", wait_s, self._retire_aged)

    def _retire_aged(self) -> None:
        latest = self._clock.monotonic() - self._settings.idle_s
        while self._idle and len(self._slots) > self._min and self._idle[0].idle_at <= latest:
            self._supervisor.retire(self._idle.pop(0))
        self._watch_age()


def _nobody() -> None:
    """Until the scheduler sets `on_free`."""


def _nobody_hears(event: AgentEvent) -> None:
    """Until the daemon sets `on_event`."""
