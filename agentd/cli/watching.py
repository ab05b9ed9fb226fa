"""The line under a task's output that says how it goes, kept up to date from the daemon's events."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Self

from agentd.cli import wording
from agentd.cli.printing import notice
from agentd.cli.terminal import StatusLine
from agentd.clock import epoch
from agentd.errors import AgentdError
from agentd.model.task import State, Task

if TYPE_CHECKING:
    from agentd.client import Client

#: At least this long between two looks at the line.
TICK_S = 0.1
#: The time that it shows moves on this often.
SECOND_S = 1.0


class TaskLine:
    """The line of one task, drawn while the context lasts; nothing where stderr is no terminal, or not `drawn`."""

    def __init__(self, agent: Client, task: Task, *, drawn: bool = True) -> None:
        self._agent = agent
        self._task = task
        self._line = StatusLine()
        self._line.on = self._line.on and drawn
        self._drawn = drawn
        self._whole_lines = True
        self._stir = asyncio.Event()
        self._stale = False
        self._chores: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        if self._line.on:
            self._chores = [asyncio.create_task(self._listen()), asyncio.create_task(self._paint())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        self._line.erase()
        if not self._whole_lines and self._line.on:
            notice_gap()

    def make_room(self, on_terminal: bool) -> None:
        """Output comes: take the line away, if they share the terminal."""
        if on_terminal:
            self._line.erase()

    def leave(self, *, whole_lines: bool) -> None:
        """Output has come; the line may be drawn again where that ended its own."""
        self._whole_lines = whole_lines
        self._stir.set()

    def say(self, text: str) -> None:
        """A notice that stays, above the line."""
        self._line.erase()
        if not self._whole_lines and self._line.on:
            notice_gap()
            self._whole_lines = True
        notice(text if self._drawn else text + "\r")
        self._stir.set()

    async def _listen(self) -> None:
        events = self._agent.follow_events(self._task.session_id, after=self._task.seq)
        try:
            async with aclosing(events):
                async for event in events:
                    if event.type == "gap" or event.json().get("task_id") == self._task.task_id:
                        self._stale = True
                        self._stir.set()
        except AgentdError:
            return  # the output's own stream says what is wrong

    async def _paint(self) -> None:
        while True:
            if self._stale:
                self._stale = False
                try:
                    self._task = await self._agent.task(self._task.task_id)
                except AgentdError:
                    self._stale = True
            if self._whole_lines:
                self._line.draw(described(self._task, time.time()))
            await asyncio.sleep(TICK_S)
            try:
                async with asyncio.timeout(SECOND_S - TICK_S):
                    await self._stir.wait()
            except TimeoutError:
                continue
            finally:
                self._stir.clear()


def described(task: Task, now: float) -> str:
    """Id, state, for how long, how far, and what it says of itself."""
    since = task.started_at if task.state is State.RUNNING and task.started_at else task.created_at
    told = ": ".join(part for part in (task.phase, task.message) if part)
    items = "" if task.items_processed is None else f"{task.items_processed} items"
    if task.items_failed:
        items += f", {task.items_failed} failed"
    bar = "" if task.progress is None or task.state is not State.RUNNING else wording.bar(task.progress)
    if task.awaiting is not None:
        told = f"asks: {wording.question(task.awaiting)}; agentd answer {task.task_id}"
    parts = (task.task_id, bar, wording.state(task), wording.duration(now - epoch(since)), items, told)
    return "  ".join(part for part in parts if part)


def notice_gap() -> None:
    """End the line that output left open."""
    sys.stderr.write("\n")
    sys.stderr.flush()
