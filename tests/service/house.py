"""The service with its real store, scheduler and local engine, in the test's own event loop."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentd.bus import Bus
from agentd.clock import SystemClock
from agentd.config import Limits, Settings, Workers
from agentd.engines.local.pool import LocalEngine
from agentd.kinds.registry import kinds
from agentd.model.events import AgentRecovered
from agentd.model.requests import Key, NewSession, NewTask, PolicyChanges
from agentd.model.task import Task
from agentd.placing import Places
from agentd.scheduler import Scheduler
from agentd.scopes import TaskTokens
from agentd.service import Service
from agentd.store.datadir import prepare
from agentd.store.disk import RealDisk
from agentd.store.store import Store

PATIENCE_S = 60.0


class SetClock(SystemClock):
    """The machine's clocks, but that somebody has set the one on the wall."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


class TroubledDisk(RealDisk):
    """The real disk, until it is told to refuse, or to hold syncs of journals back.

    With `refuse_write`, what has one of `spared` in it is written all the same.
    """

    def __init__(self) -> None:
        self.refuse_write: int | None = None
        self.spared: tuple[bytes, ...] = ()
        self.refuse_sync: int | None = None
        self.go = threading.Event()
        self.go.set()

    def write(self, fd: int, data: bytes) -> None:
        if self.refuse_write is not None and not any(each in data for each in self.spared):
            raise OSError(self.refuse_write, "refused")
        super().write(fd, data)

    def fdatasync(self, fd: int, point: str) -> None:
        assert self.go.wait(PATIENCE_S)
        if self.refuse_sync is not None:
            raise OSError(self.refuse_sync, "refused")
        super().fdatasync(fd, point)


class House:
    """A daemon without HTTP. Open it, use `service`, close it; a second one on the same directory is the next boot."""

    def __init__(self, data_dir: Path, *, limits: Limits | None = None, workers: Workers | None = None) -> None:
        workers = workers or Workers(min=1, max=4, grace_s=0.2)
        self.settings = Settings(data_dir=str(data_dir), limits=limits or Limits(), workers=workers)
        self.clock = SetClock()
        self.disk = TroubledDisk()
        data_dir.mkdir(exist_ok=True)
        prepare(self.disk, str(data_dir))
        self.store = Store(data_dir, disk=self.disk, limits=self.settings.limits)
        self.service = Service(
            settings=self.settings,
            store=self.store,
            bus=Bus(100),
            clock=self.clock,
            kinds=kinds(),
            agent_id=f"agent-{secrets.token_hex(8)}",
            boot_id=secrets.token_hex(8),
            stop_asked=asyncio.Event(),
        )
        self.service.task_tokens = TaskTokens(b"k" * 32)
        self.engine = LocalEngine(
            workers, agent_id=self.service.agent_id, boot_id=self.service.boot_id, clock=self.clock
        )
        places = Places(str(data_dir), self.settings, self.service.task_tokens, os.environ)
        self.scheduler = Scheduler(self.service, self.engine, places)
        self.closed = False

    async def open(self, *, running: bool = True) -> AgentRecovered:
        """Recover, and unless told otherwise begin to run tasks."""
        found = await self.store.open()
        report = await self.service.recover(found, killed=0, began=self.clock.monotonic())
        if running:
            await self.run()
        return report

    async def run(self) -> None:
        """Begin to run tasks, with a worker ready."""
        await self.engine.open()
        await until(lambda: self.engine.capacity().idle > 0)
        self.scheduler.open()

    async def close(self) -> None:
        """Stop as the daemon does; again is no error."""
        if self.closed:
            return
        self.closed = True
        self.disk.go.set()
        await self.scheduler.drain(0, 2.0, asyncio.Event())
        await self.service.close_runs()
        self.service.bus.close()
        await self.engine.close()
        await self.store.close()

    async def session(self, session_id: str = "s", key: str | None = None, **policy: Any) -> None:
        new = NewSession(session_id=session_id, policy=PolicyChanges(**policy))
        await self.service.create_session(new, key_of(key) if key else None)

    async def submit(self, command: str = "true", session_id: str = "s", key: str | None = None, **fields: Any) -> Task:
        """A shell task in a session that is there."""
        new = NewTask(spec={"command": command}, **fields)
        return (await self.service.submit(session_id, new, key_of(key) if key else None, "test")).value

    async def ended(self, task_id: str) -> Task:
        """The task once it is terminal."""
        task = await self.service.wait(task_id, PATIENCE_S)
        assert task.terminal, task
        return task


def key_of(name: str) -> Key:
    return Key(key_hash=name, body_hash="body")


async def until(condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """Return once the condition is true."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - any condition, whoever makes it true
            await asyncio.sleep(0.002)
