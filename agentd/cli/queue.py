"""agentd queue: what waits, in the order in which it will run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agentd.cli import wording
from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.printing import Column, Look, notice
from agentd.model.requests import QueueItem, QueueView, Window

if TYPE_CHECKING:
    from agentd.client import Client

COLUMNS = (
    Column[QueueItem]("POS", lambda item, look: "-" if item.position is None else str(item.position), right=True),
    Column[QueueItem]("ID", lambda item, look: item.task_id),
    Column[QueueItem]("SESSION", lambda item, look: item.session_id),
    Column[QueueItem]("STATE", lambda item, look: item.state, state=True),
    Column[QueueItem]("QUEUE", lambda item, look: item.queue),
    Column[QueueItem]("PRIORITY", lambda item, look: str(item.priority), right=True),
    Column[QueueItem]("CREATED", lambda item, look: look.when(item.created_at)),
    Column[QueueItem]("WAITS FOR", lambda item, look: item.reason),
)


@click.command("queue")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many.")
@with_agent
async def command(agent: Client, at: Invocation, limit: int) -> None:
    """List what is queued or waiting, and why. The first is the next to run."""
    view = await agent.queue(Window(limit=limit))
    if at.output == "json":
        at.printer.one(view, "", lambda value, look: None)
        return
    at.printer.rows(view.data, _columns(view), lambda item: item.task_id, empty="nothing waits")
    if at.output == "table" and view.data:
        oldest = "" if view.oldest_age_s is None else f" (the oldest for {wording.duration(view.oldest_age_s)})"
        notice(f"{view.depth} queued{oldest}, {view.waiting} waiting")


def _columns(view: QueueView) -> list[Column[QueueItem]]:
    """All of them; on a terminal without those that say nothing, so that there is room for the reason."""
    if not Look().human:
        return list(COLUMNS)
    dull = {"QUEUE"} if all(item.queue == "default" for item in view.data) else set()
    dull |= {"PRIORITY"} if not any(item.priority for item in view.data) else set()
    return [column for column in COLUMNS if column.title not in dull]
