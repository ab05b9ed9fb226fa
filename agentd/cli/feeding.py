"""This command's standard input on its way to a running task, and the size of its terminal with it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import signal
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING

from agentd.errors import AgentdError, Conflict, InputFull, InvalidTransition
from agentd.model.reports import NewInput, NewSize
from agentd.model.task import State, Task

if TYPE_CHECKING:
    from agentd.client import Client

#: One call.
PIECE_BYTES = 32 << 10
#: Pauses while a task does not read what it has, in seconds: at first, and at most.
PAUSE_S, PAUSE_MOST_S = 0.05, 1.0


async def given(agent: Client, task_id: str, new: NewInput) -> None:
    """Send it, once the task has read enough of what it was sent before.

    Raises:
        Conflict: the task takes no input, or none any more.
    """
    pause_s = PAUSE_S
    while True:
        try:
            await agent.give_input(task_id, new)
            return
        except InputFull:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_MOST_S)


class Feed:
    """Standard input for one task: `run` until either ends. `say` tells the user what went wrong."""

    def __init__(self, agent: Client, task: Task, say: Callable[[str], None]) -> None:
        self._agent = agent
        self._task_id, self._session_id = task.task_id, task.session_id
        self._say = say
        self._ready = asyncio.Event()

    async def run(self, *, resize: bool) -> None:
        """Send what is typed; with `resize`, also each new size of the terminal."""
        loop = asyncio.get_running_loop()
        resized = asyncio.Event()
        if resize:
            loop.add_signal_handler(signal.SIGWINCH, resized.set)
        sizes = asyncio.create_task(self._sizes(resized)) if resize else None
        try:
            if await self._until_running():
                await self._pieces()
        except AgentdError as error:
            self._say(f"what is typed reaches the task no more: {error.detail}")
        finally:
            if sizes is not None:
                loop.remove_signal_handler(signal.SIGWINCH)
                sizes.cancel()
                await asyncio.gather(sizes, return_exceptions=True)

    async def _pieces(self) -> None:
        while True:
            data = await self._read()
            new = NewInput(data_base64=base64.b64encode(data).decode()) if data else NewInput(eof=True)
            while True:
                try:
                    await given(self._agent, self._task_id, new)
                    break
                except InvalidTransition:  # between two attempts, or over
                    await asyncio.sleep(PAUSE_S)
                    if not await self._until_running():
                        return
                except Conflict:
                    return  # it closed its input, as `head` does
            if not data:
                return

    async def _read(self) -> bytes:
        """What there is on standard input; nothing at its end."""
        loop, fd = asyncio.get_running_loop(), sys.stdin.fileno()
        self._ready.clear()
        try:
            loop.add_reader(fd, self._ready.set)
        except PermissionError:
            return os.read(fd, PIECE_BYTES)  # a file is always ready
        try:
            await self._ready.wait()
        finally:
            loop.remove_reader(fd)
        try:
            return os.read(fd, PIECE_BYTES)
        except OSError:
            return b""  # the terminal is gone

    async def _until_running(self) -> bool:
        """Wait for the task to run; False when it has ended."""
        task = await self._agent.task(self._task_id)
        if task.state is State.RUNNING or task.terminal:
            return not task.terminal
        events = self._agent.follow_events(self._session_id, after=task.seq)
        async with aclosing(events):
            async for event in events:
                if event.type == "gap" or event.json().get("task_id") == self._task_id:
                    task = await self._agent.task(self._task_id)
                    if task.state is State.RUNNING or task.terminal:
                        return not task.terminal
        return False

    async def _sizes(self, resized: asyncio.Event) -> None:
        while True:
            await resized.wait()
            resized.clear()
            with contextlib.suppress(AgentdError):
                await self._agent.resize_terminal(self._task_id, size())


def size() -> NewSize:
    """How large the terminal here is."""
    columns, rows = shutil.get_terminal_size()
    return NewSize(rows=rows, columns=columns)


@contextlib.contextmanager
def raw() -> Iterator[None]:
    """Keys go to the task as they are pressed and unseen here, all but Ctrl-C; only where stdin is a terminal."""
    if not sys.stdin.isatty():
        yield
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    mode = termios.tcgetattr(fd)
    mode[0] &= ~(termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON)
    mode[1] &= ~termios.OPOST  # what the task's own terminal shows is ready for this one
    mode[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN)
    for key in (termios.VQUIT, termios.VSUSP):
        mode[6][key] = b"\0"
    mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSADRAIN, mode)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
