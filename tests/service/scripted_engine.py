"""An engine that runs nothing: launches end when and as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from agentd.errors import WorkerNotFound
from agentd.model.events import AgentEvent
from agentd.model.launch import Capacity, Exit, Launch
from agentd.model.requests import WorkerView


class ScriptedEngine:
    """engines/protocol.py by hand. Over all boots, `launched` are the attempts begun, of which none may come twice,
    and `exits` how those ended that did.
    """

    def __init__(self, most: int, launched: set[str], exits: dict[str, Exit]) -> None:
        self.on_free: Callable[[], None] = lambda: None
        self.on_event: Callable[[AgentEvent], None] = lambda event: None
        self.on_launch: Callable[[str], None] = lambda attempt_id: None
        self.running: dict[str, asyncio.Future[Exit]] = {}
        self.exits = exits
        self.asked_to_stop: set[str] = set()
        self._most = most
        self._launched = launched
        self._claimed: set[str] = set()
        self._workers = 0
        self._lent = 0

    async def open(self) -> None:
        """Nothing is kept ready."""

    def claim(self) -> str | None:
        if not self.has_room:
            return None
        self._workers += 1
        self._claimed.add(worker_id := f"w{self._workers}")
        return worker_id

    @property
    def has_room(self) -> bool:
        """Whether a claim would succeed."""
        return len(self._claimed) + len(self.running) < self._most + self._lent

    def lend(self, waiting: int) -> None:
        self._lent = waiting

    def release(self, worker_id: str) -> None:
        self._claimed.remove(worker_id)
        self.on_free()

    def start(self, worker_id: str, launch: Launch, on_spawned: Callable[[int, int], None]) -> asyncio.Future[Exit]:
        self._claimed.remove(worker_id)
        assert launch.attempt_id not in self._launched, f"{launch.attempt_id} is launched a second time"
        self._launched.add(launch.attempt_id)
        self.on_launch(launch.attempt_id)
        if self._workers % 2:
            on_spawned(10_000 + self._workers, 5)
        future = self.running[launch.attempt_id] = asyncio.get_running_loop().create_future()
        return future

    def attach(self, attempt_id: str) -> asyncio.Future[Exit]:
        return self.running[attempt_id]

    def stop(self, attempt_id: str, grace_s: float | None = None) -> None:
        if attempt_id in self.running:
            self.asked_to_stop.add(attempt_id)

    def input(self, attempt_id: str, data: bytes, *, eof: bool) -> int:
        raise KeyError(attempt_id)

    def resize(self, attempt_id: str, rows: int, columns: int) -> None:
        raise KeyError(attempt_id)

    def end(self, attempt_id: str, exit: Exit) -> None:
        """The attempt is over, in this way; again: no effect."""
        if attempt_id not in self.running:
            return
        self.exits[attempt_id] = exit
        self.running.pop(attempt_id).set_result(exit)
        self.on_free()

    def capacity(self) -> Capacity:
        busy = len(self.running)
        return Capacity(max=self._most, busy=busy, idle=self._most - busy, starting=0, restarts=0, degraded=False)

    def workers(self) -> Sequence[WorkerView]:
        return ()

    async def restart_worker(self, worker_id: str) -> WorkerView:
        raise WorkerNotFound(worker_id)

    def scale(self, minimum: int | None, maximum: int | None) -> Capacity:
        self._most = maximum or self._most
        return self.capacity()

    async def close(self) -> None:
        """Nothing is left."""
