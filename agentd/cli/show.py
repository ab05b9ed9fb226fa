"""agentd show: all about one task or session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agentd.cli.ids import task_or_session
from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.parameters import TASK_OR_SESSION
from agentd.cli.tables import session_facts, task_facts
from agentd.model.task import Task

if TYPE_CHECKING:
    from agentd.client import Client


@click.command("show")
@click.argument("item", metavar="ID", type=TASK_OR_SESSION)
@with_agent
async def command(agent: Client, at: Invocation, item: str) -> None:
    """Show a task, or a session with its tasks.

    ID is the whole id or a beginning that only one has.
    """
    found = await task_or_session(agent, item)
    if isinstance(found, Task):
        at.printer.one(found, found.task_id, task_facts)
    else:
        at.printer.one(found, found.session_id, session_facts)
