"""agentd logs: what tasks wrote."""

from __future__ import annotations

import asyncio
import collections
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from agentd.cli.following import Apart
from agentd.cli.ids import task_meant
from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.parameters import TASK_OR_SESSION
from agentd.cli.terminal import Sink
from agentd.model.task import Task

if TYPE_CHECKING:
    from agentd.client import Client


@click.command("logs")
@click.argument("items", metavar="[ID]...", nargs=-1, type=TASK_OR_SESSION)
@click.option("-f", "--follow", is_flag=True, help="Go on until the task has ended, through its retries.")
@click.option("-n", "--lines", type=click.IntRange(0), metavar="N", help="Only the last N lines, and what follows.")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="That of an earlier attempt.")
@click.option("--stream", type=click.Choice(["out", "err"]), help="Only what went to stdout, or to stderr.")
@with_agent
async def command(
    agent: Client,
    at: Invocation,
    items: tuple[str, ...],
    follow: bool,
    lines: int | None,
    attempt: int | None,
    stream: str | None,
) -> None:
    """Show the output of tasks, byte for byte as they wrote it.

    ID is a task, or a session for its newest task; without one it is the newest task of all.
    """
    tasks = [await task_meant(agent, item) for item in items or [None]]
    page = _Page(several=len(tasks) > 1)

    async def show(task: Task) -> None:
        blocks = _output(agent, task, follow, lines, attempt, stream)
        async with aclosing(blocks):
            async for block in blocks:
                await page.write(task.task_id, block)

    if follow and len(tasks) > 1:
        await asyncio.gather(*(show(task) for task in tasks))
        return
    for task in tasks:
        await show(task)


class _Page:
    """Where the outputs go; with several of them, a title says whose the following bytes are, as tail(1) does."""

    def __init__(self, several: bool) -> None:
        self._several = several
        self._sink = Sink(sys.stdout)
        self._whose: str | None = None
        self._turn = asyncio.Lock()

    async def write(self, whose: str, data: bytes) -> None:
        async with self._turn:
            if self._several and whose != self._whose:
                gap = "" if self._whose is None else "\n" if self._sink.at_line_start else "\n\n"
                await self._sink.write(f"{gap}==> {whose} <==\n".encode())
                self._whose = whose
            await self._sink.write(data)


async def _output(
    agent: Client, task: Task, follow: bool, lines: int | None, attempt: int | None, stream: str | None
) -> AsyncGenerator[bytes, None]:
    follow = follow and not task.terminal
    seen = 0
    if lines is not None and stream is not None:
        shown, seen = await _last_lines(agent, task, lines, attempt, stream)
        yield shown
    elif lines is not None:
        seen = await _start_of_last(agent, task, lines, attempt)
    if not follow:
        if stream is None or lines is None:
            async with aclosing(agent.output(task.task_id, attempt=attempt, stream=stream, start=seen)) as blocks:
                async for block in blocks:
                    yield block
    elif stream is None:
        following = agent.follow_output(
            task.task_id, attempt=attempt or max(1, task.attempt), offset=seen, retries=attempt is None
        )
        async with aclosing(following):
            async for part in following:
                if not isinstance(part, Task):
                    yield part.data
    else:
        apart = Apart(agent, task, attempt=attempt, **{stream: seen}).parts()
        async with aclosing(apart):
            async for each in apart:
                if isinstance(each, tuple) and each[0] == stream:
                    yield each[1]


async def _start_of_last(agent: Client, task: Task, lines: int, attempt: int | None) -> int:
    """Where the last lines begin; the end, for none."""
    window = await agent.output_lines(task.task_id, line=-max(lines, 1), count=1, attempt=attempt)
    if lines == 0 or not window.lines:
        return window.size
    return window.lines[0].offset


async def _last_lines(agent: Client, task: Task, lines: int, attempt: int | None, stream: str) -> tuple[bytes, int]:
    """The last lines of one stream, and its size; only the whole log knows its lines by number."""
    kept: collections.deque[bytes] = collections.deque(maxlen=lines)
    rest, size = b"", 0
    async with aclosing(agent.output(task.task_id, attempt=attempt, stream=stream)) as blocks:
        async for block in blocks:
            size += len(block)
            *whole, rest = (rest + block).split(b"\n")
            kept.extend(line + b"\n" for line in whole)
    if rest:
        kept.append(rest)
    return b"".join(kept), size
