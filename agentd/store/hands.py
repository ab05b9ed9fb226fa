"""Threads that work for the event loop: one blocking call each, and its outcome told on the loop.

What `ThreadPoolExecutor` and `run_in_executor` do, for the one place where a task waits for it twice: no future of
either kind stands between the thread and who asked, and the thread that rested last, whose caches are warm, works next.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

Told = Callable[[Any, BaseException | None], None]


class Hands:
    """One thread at least and `most` at most, each further one started when all others are busy, if the system gives
    one; calls beyond wait.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._all = [_Hand(f"{name}-0", self._rests)]
        self._resting = [*self._all]
        self._waiting: list[_Job] = []

    def run(self, work: Callable[..., Any], args: tuple[Any, ...], told: Told) -> None:
        """Call `work(*args)` in a thread, then `told(result, error)` on the running loop; one of both is None."""
        job = (work, args, told, asyncio.get_running_loop())
        if not self._resting and len(self._all) < self._most:
            with suppress(RuntimeError):  # as many as the system gives: those there are do it
                self._all.append(_Hand(f"{self._name}-{len(self._all)}", self._rests))
                self._resting.append(self._all[-1])
        if self._resting:
            self._resting.pop().take(job)
        else:
            self._waiting.append(job)

    def _rests(self, hand: _Hand, told: Told, result: Any, error: BaseException | None) -> None:
        """On the loop: the hand is free again."""
        if self._waiting:
            hand.take(self._waiting.pop(0))
        else:
            self._resting.append(hand)
        told(result, error)

    def shutdown(self) -> None:
        """Let the threads end; the caller has heard of all that it asked for."""
        for hand in self._all:
            hand.take(None)
        for hand in self._all:
            hand.thread.join()
        self._all.clear()
        self._resting.clear()


_Job = tuple[Callable[..., Any], tuple[Any, ...], Told, asyncio.AbstractEventLoop]


class _Hand:
    """One thread: it sleeps on a lock, which who has a job lets go of."""

    def __init__(self, name: str, rests: Callable[[_Hand, Told, Any, BaseException | None], None]) -> None:
        self._rests = rests
        self._job: _Job | None = None
        self._asleep = threading.Lock()
        self._asleep.acquire()
        self.thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self.thread.start()

    def take(self, job: _Job | None) -> None:
        """Do this next; None is to end."""
        self._job = job
        self._asleep.release()

    def _serve(self) -> None:
        while True:
            self._asleep.acquire()
            job, self._job = self._job, None  # before it is told: from then on there may be another
            if job is None:
                return
            work, args, told, loop = job
            result = error = None
            try:
                result = work(*args)
            except BaseException as raised:
                error = raised
            try:
                loop.call_soon_threadsafe(self._rests, self, told, result, error)
            except RuntimeError:
                return  # the loop is closed: there is nobody to tell
            del job, work, args, told, loop, result, error
