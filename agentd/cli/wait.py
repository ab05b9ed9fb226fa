"""agentd wait: until tasks have ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from agentd.cli import exits
from agentd.cli.ids import task_of
from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.parameters import DURATION, TASK
from agentd.cli.patience import Patience
from agentd.cli.printing import notice
from agentd.cli.tables import TASKS
from agentd.model.task import State, Task

if TYPE_CHECKING:
    from agentd.client import Client


@click.command("wait")
@click.argument("tasks", metavar="ID...", nargs=-1, required=True, type=TASK)
@click.option("--timeout", "timeout_s", type=DURATION, metavar="TIME", help="Give up after so long, exit code 124.")
@with_agent
async def command(agent: Client, at: Invocation, tasks: tuple[str, ...], timeout_s: float | None) -> int:
    """Wait until all the tasks have ended.

    Exits 0 if all completed and 1 if any did not. A daemon that restarts meanwhile is waited for.
    """
    found = [await task_of(agent, text) for text in tasks]
    waits = [asyncio.create_task(_ended(agent, task)) for task in found]
    done, late = await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_EXCEPTION)
    for each in late:
        each.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    for each in done:
        each.result()  # raises what went wrong
    if late:
        notice(f"{len(late)} of {len(found)} not ended after {timeout_s:g} s")
        return exits.TIMED_OUT
    ended = [each.result() for each in waits]
    at.printer.rows(ended, TASKS, lambda task: task.task_id)
    return exits.OK if all(task.state is State.COMPLETED for task in ended) else exits.FAILED


async def _ended(agent: Client, task: Task) -> Task:
    patience, task_id = Patience(agent), task.task_id
    while not task.terminal:
        task = await patience.kept(lambda: agent.wait(task_id))
    return task
