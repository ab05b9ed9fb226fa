"""agentd ask: a task asks its user something and waits for the answer."""

from __future__ import annotations

import asyncio
import secrets
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from agentd.cli import exits
from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.parameters import LIVE_TASK
from agentd.cli.tables import task_facts
from agentd.errors import AgentdError, InvalidTransition
from agentd.model.reports import NewQuestion

if TYPE_CHECKING:
    from agentd.client import Client

#: Seconds for which a question is taken back.
WITHDRAW_S = 5.0


@click.command("ask")
@click.argument("prompt")
@click.option("--option", "options", multiple=True, metavar="TEXT", help="An answer to choose from; may be repeated.")
@click.option(
    "--task", "task_id", type=LIVE_TASK, metavar="ID", envvar="AGENTD_TASK_ID", help="[default: the one this runs in]"
)
@with_agent
async def command(
    agent: Client, at: Invocation, prompt: str, options: tuple[str, ...], task_id: str | None
) -> int | None:
    """Ask whoever watches the task, and print the answer.

    The task is the one that this runs in, or that --task names. It shows `awaiting` meanwhile; `agentd answer`, the
    viewer and the API answer it. It waits as long as the task may run. Ctrl-C and SIGTERM, as timeout(1) sends it, take
    the question back.
    """
    if task_id is None:
        raise click.UsageError("this does not run in a task; say which is meant: --task ID")
    question = NewQuestion(ask_id=secrets.token_hex(8), prompt=prompt, options=options)
    asking = asyncio.create_task(_ask(agent, at, task_id, question))
    terminated = asyncio.Event()

    def terminate() -> None:
        terminated.set()
        asking.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        await asking
    except asyncio.CancelledError:
        with suppress(AgentdError, TimeoutError):
            async with asyncio.timeout(WITHDRAW_S):
                await agent.withdraw(task_id, question.ask_id)
        if not terminated.is_set():
            raise
        return exits.TERMINATED
    return exits.OK


async def _ask(agent: Client, at: Invocation, task_id: str, question: NewQuestion) -> None:
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
