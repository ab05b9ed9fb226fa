"""agentd answer: reply to what a task asks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from agentd.cli.ids import task_of
from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.parameters import LIVE_TASK
from agentd.cli.tables import task_facts
from agentd.cli.wording import printable
from agentd.errors import InvalidTransition
from agentd.model.reports import NewAnswer

if TYPE_CHECKING:
    from agentd.client import Client


@click.command("answer")
@click.argument("task", metavar="ID", type=LIVE_TASK)
@click.argument("text", required=False)
@with_agent
async def command(agent: Client, at: Invocation, task: str, text: str | None) -> None:
    """Answer what a running task asks. Without TEXT, show the question and read the answer from standard input."""
    asking = await task_of(agent, task)
    question = asking.awaiting
    if question is None:
        raise InvalidTransition(f"task {asking.task_id} asks nothing now")
    if text is None:
        # Its lines are set in, so that none can be taken for one of ours.
        click.echo("\n  ".join(map(printable, question.prompt.split("\n"))), err=True)
        if question.options:
            click.echo(f"one of: {', '.join(map(printable, question.options))}", err=True)
        text = sys.stdin.readline().rstrip("\n")
    answered = await agent.answer(asking.task_id, NewAnswer(answer=text, ask_id=question.ask_id))
    if at.output != "table":
        at.printer.one(answered, answered.task_id, task_facts)
