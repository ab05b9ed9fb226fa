"""agentd retry: the same again, as a new task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agentd.cli.each import each_of
from agentd.cli.ids import task_of
from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.parameters import ENDED_TASK
from agentd.cli.tables import TASKS
from agentd.model.task import Task

if TYPE_CHECKING:
    from agentd.client import Client


@click.command("retry")
@click.argument("tasks", metavar="ID...", nargs=-1, required=True, type=ENDED_TASK)
@with_agent
async def command(agent: Client, at: Invocation, tasks: tuple[str, ...]) -> int:
    """Submit ended tasks again, each as a new task with `retry_of`."""

    async def retried(text: str) -> Task:
        return await agent.retry((await task_of(agent, text)).task_id)

    done, code = await each_of(tasks, retried)
    at.printer.rows(done, TASKS, lambda task: task.task_id)
    return code
