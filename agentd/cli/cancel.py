"""agentd cancel: ask tasks to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agentd.cli.each import each_of
from agentd.cli.ids import task_of
from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.parameters import LIVE_TASK
from agentd.cli.tables import TASKS
from agentd.model.task import Task

if TYPE_CHECKING:
    from agentd.client import Client


@click.command("cancel")
@click.argument("tasks", metavar="ID...", nargs=-1, required=True, type=LIVE_TASK)
@with_agent
async def command(agent: Client, at: Invocation, tasks: tuple[str, ...]) -> int:
    """Cancel tasks. Those that wait end at once, those that run when all their processes are stopped.

    A running task shows `stopping` until its last process is gone. All tasks of a session: `agentd sessions cancel`.
    """

    async def cancelled(text: str) -> Task:
        return await agent.cancel((await task_of(agent, text)).task_id)

    done, code = await each_of(tasks, cancelled)
    at.printer.rows(done, TASKS, lambda task: task.task_id)
    return code
