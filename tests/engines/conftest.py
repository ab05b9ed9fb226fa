"""A local engine with real workers, launches for it, and a way to see what lives."""

# ruff: noqa: ASYNC240 - small files are read at once here

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentd.clock import SystemClock
from agentd.config import Workers
from agentd.engines.local.pool import LocalEngine
from agentd.model.events import AgentEvent
from agentd.model.launch import Exit, Launch, ResourceLimits
from benchlib.processes import marked

PATIENCE_S = 60.0


class Lab:
    """An engine under test: what it announced, launches to give it, and their exits."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        window_s = settings.pop("losses_window_s", 60.0)
        self.directory = directory
        self.marker = uuid.uuid4().hex  #: in the command line of everything that must not survive
        self.events: list[AgentEvent] = []
        self.free = asyncio.Event()
        self.engine = LocalEngine(
            Workers(**{"min": 1, "max": 4, "grace_s": 0.2, **settings}),
            "agent-" + self.marker,
            "boot",
            SystemClock(),
            losses_window_s=window_s,
        )
        self.engine.on_event = self.events.append
        self.engine.on_free = self.free.set
        self.spawned: dict[str, tuple[int, int]] = {}
        self._count = 0

    def launch(self, *argv: str, **changes: Any) -> Launch:
        """A launch of the arguments, or of a script for sh if there is only one."""
        self._count += 1
        name = f"task{self._count}"
        given = {
            "attempt_id": f"{name}.1",
            "task_id": name,
            "argv": argv if len(argv) > 1 else ("/bin/sh", "-c", argv[0]),
            "env": {"PATH": os.environ["PATH"], "MARK": self.marker, "PYTHON": sys.executable},
            "cwd": str(self.directory),
            "grace_s": 0.2,
            "log_path": str(self.directory / f"{name}.log"),
            "index_path": str(self.directory / f"{name}.idx"),
            "result_path": str(self.directory / f"{name}.result"),
        }
        return Launch(**{**given, **changes})

    async def claim(self) -> str:
        """A worker, as soon as there is one."""
        async with asyncio.timeout(PATIENCE_S):
            while (worker_id := self.engine.claim()) is None:
                self.free.clear()
                await self.free.wait()
        return worker_id

    async def start(self, launch: Launch) -> asyncio.Future[Exit]:
        """Run it on the next free worker."""

        def on_spawned(pid: int, started_at: int) -> None:
            self.spawned[launch.attempt_id] = pid, started_at

        return self.engine.start(await self.claim(), launch, on_spawned)

    async def run(self, *argv: str, **changes: Any) -> tuple[Exit, bytes]:
        """The exit of a launch and what it wrote."""
        launch = self.launch(*argv, **changes)
        async with asyncio.timeout(PATIENCE_S):
            end = await (await self.start(launch))
        path = Path(launch.log_path)
        return end, path.read_bytes() if path.exists() else b""

    def worker_pid(self, task_id: str) -> int:
        """The process of the worker that runs the task."""
        return next(view.pid for view in self.engine.workers() if view.task_id == task_id)

    def survivors(self) -> list[int]:
        """Processes with the marker in their command line that are not zombies."""
        return marked(self.marker)


async def until(condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """What the condition says as soon as it says something true."""
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)
    return value


MakeLab = Callable[..., Any]


@pytest.fixture
async def make_lab(tmp_path: Path) -> AsyncIterator[MakeLab]:
    """Opens labs with the given settings, one at a time, and closes what is left open."""
    labs: list[Lab] = []

    async def make(**settings: Any) -> Lab:
        lab = Lab(tmp_path, **settings)
        labs.append(lab)
        await lab.engine.open()
        return lab

    yield make
    for lab in labs:
        await lab.engine.close()
        for pid in lab.survivors():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
async def lab(make_lab: MakeLab) -> Lab:
    """A lab with the usual settings."""
    opened: Lab = await make_lab()
    return opened


@pytest.fixture
def limits() -> Iterator[type[ResourceLimits]]:
    """The type of a launch's limits."""
    yield ResourceLimits
