"""Time and threads that go on only when a test says so: a turn of the loop or a piece of a thread's work at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

T = TypeVar("T")

#: Turns and pieces of work after which a service that still goes on is taken to go round in circles.
MOST_STEPS = 20_000
#: Times the clock may be moved on for one coroutine.
MOST_TIMERS = 2_000


class Clock:
    """The loop's time as the monotonic one, and a wall clock that can be set."""

    def __init__(self, wall: float) -> None:
        self.now = 1000.0
        self.ahead = wall - self.now

    def time(self) -> float:
        return self.now + self.ahead

    def monotonic(self) -> float:
        return self.now


class Threads(Executor):
    """All threads of a store in one, its pools and its hands: work waits for its turn, and chance says whose it is."""

    def __init__(self, chance: random.Random) -> None:
        self.waiting: list[Callable[[], None]] = []
        self._chance = chance

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """As a pool takes work."""
        future: Future[T] = Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args))
                except BaseException as error:
                    future.set_exception(error)

        self.waiting.append(work)
        return future

    def run(self, work: Callable[..., Any], args: tuple[Any, ...], told: Callable[[Any, Any], None]) -> None:
        """As agentd.store.hands takes work."""
        loop = asyncio.get_running_loop()

        def job() -> None:
            result = error = None
            try:
                result = work(*args)
            except BaseException as raised:
                error = raised
            loop.call_soon(told, result, error)

        self.waiting.append(job)

    def run_one(self) -> None:
        """One piece of what waits."""
        self.waiting.pop(self._chance.randrange(len(self.waiting)))()


class SteppedLoop(asyncio.SelectorEventLoop):
    """A loop on such a clock. Use `step`, `quiet`, `advance` and `finished` from outside of it."""

    def __init__(self, clock: Clock, threads: Threads, halted: Callable[[], bool]) -> None:
        self.clock = clock
        self.threads = threads
        self.complaints: list[str] = []
        self._halted = halted  #: whether the machine has stopped: nothing goes on then
        super().__init__()
        self.set_exception_handler(lambda _, context: self.complaints.append(repr(context)))

    def time(self) -> float:
        return self.clock.now

    @property
    def _has_ready(self) -> bool:
        ready: object = self._ready  # type: ignore[attr-defined]
        return bool(ready)

    @property
    def _next_timer(self) -> float | None:
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return min((timer.when() for timer in timers if not timer.cancelled()), default=None)

    def _turn(self) -> None:
        self.stop()  # so that it polls once and comes back
        self.run_forever()

    def step(self) -> bool:
        """A turn of the loop if anything is to be called, else a piece of a thread's work; False: neither."""
        if self._halted():
            return False
        due = self._next_timer
        if self._has_ready or (due is not None and due <= self.clock.now):
            self._turn()
            return True
        if self.threads.waiting:
            self.threads.run_one()
            self._turn()
            return True
        return False

    def quiet(self) -> None:
        """Go on until nothing more happens at this moment."""
        for _ in range(MOST_STEPS):
            if not self.step():
                return
        raise AssertionError("it never becomes quiet")

    def advance(self, seconds: float) -> None:
        """Let time pass, and all that it brings."""
        end = self.clock.now + seconds
        self.quiet()
        while not self._halted() and (due := self._next_timer) is not None and due <= end:
            self.clock.now = max(self.clock.now, due)
            self.quiet()
        self.clock.now = end

    def finished(self, work: Coroutine[Any, Any, T]) -> T:
        """What the coroutine gives; time passes as far as it waits for it."""
        task = self.create_task(work)
        for _ in range(MOST_TIMERS):
            self.quiet()
            if task.done() or self._halted():
                break
            due = self._next_timer
            assert due is not None, f"it waits for nothing: {task}"
            self.clock.now = max(self.clock.now, due)
        assert task.done(), task
        return task.result()

    def abandon(self) -> None:
        """End it as a killed process ends: nothing more is written or told."""
        self.threads.waiting.clear()
        self.complaints.clear()
        for _ in range(100):
            if not (tasks := asyncio.all_tasks(self)):
                break
            for task in tasks:
                task.cancel()
            self._turn()
        self.close()
