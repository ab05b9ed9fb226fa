"""A task's output to its very end, through all its attempts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from agentd.model.task import Task

if TYPE_CHECKING:
    from agentd.client import Client, OutputChunk


async def output_of(
    agent: Client, task: Task, *, attempt: int | None = None, offset: int = 0
) -> AsyncGenerator[OutputChunk | Task, None]:
    """The output from `offset` of an attempt on (the latest by default), then that of each further attempt, then the
    task as it ended. With `attempt` that one alone."""
    n = attempt or max(1, task.attempt)
    while True:
        async with aclosing(agent.follow_output(task.task_id, attempt=n, offset=offset)) as parts:
            async for part in parts:
                if isinstance(part, Task):
                    task = part
                else:
                    yield part
        if attempt is None and not task.terminal:
            task = await _after(agent, task, n)
        if attempt is not None or (task.terminal and task.attempt <= n):
            yield task
            return
        n, offset = n + 1, 0


async def _after(agent: Client, task: Task, n: int) -> Task:
    """The task once it has ended, or has begun an attempt behind the nth."""
    async with aclosing(agent.follow_events(task.session_id, after=task.seq)) as events:
        async for event in events:
            if event.type in ("hello", "gap", "task.started", "task.finished"):
                task = await agent.task(task.task_id)
                if task.terminal or task.attempt > n:
                    break
    return task
