"""agentd ask: a task asks its user something and waits for the answer."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import click

from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.parameters import LIVE_TASK
from agentd.cli.tables import task_facts
from agentd.errors import InvalidTransition
from agentd.model.reports import NewQuestion

if TYPE_CHECKING:
    from agentd.client import Client


@click.command("ask")
@click.argument("prompt")
@click.option("--option", "options", multiple=True, metavar="TEXT", help="An answer to choose from; may be repeated.")
@click.option(
    "--task", "task_id", type=LIVE_TASK, metavar="ID", envvar="AGENTD_TASK_ID", help="[default: the one this runs in]"
)
@with_agent
async def command(agent: Client, at: Invocation, prompt: str, options: tuple[str, ...], task_id: str | None) -> None:
    """Ask whoever watches the task that this runs in, and print the answer.

    The task shows `awaiting` meanwhile; `agentd answer`, the viewer and the API answer it. It waits as long as the
    task may run.
    """
    if task_id is None:
        raise click.UsageError("this does not run in a task; say which is meant: --task ID")
    question = NewQuestion(ask_id=secrets.token_hex(8), prompt=prompt, options=options)
    while True:
        task = await agent.ask(task_id, question)
        if task.answered is not None and task.answered.ask_id == question.ask_id:
            break
        if task.awaiting is None or task.awaiting.ask_id != question.ask_id:
            raise InvalidTransition(f"task {task_id} no longer asks this: it ended, or asks something else")
    if at.output == "table":
        click.echo(task.answered.answer)
    else:
        at.printer.one(task, task.task_id, task_facts)
