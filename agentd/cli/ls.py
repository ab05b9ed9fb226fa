"""agentd ls: tasks, newest first."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import click

from agentd.cli.ids import session_of, task_of
from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.parameters import AGO, SESSION, TASK
from agentd.cli.printing import notice
from agentd.cli.tables import TASKS
from agentd.model.requests import Page, TaskQuery
from agentd.model.task import CauseCode, State, Task

if TYPE_CHECKING:
    from agentd.client import Client

PAGE = 1000


@click.command("ls")
@click.option("-s", "--session", type=SESSION, metavar="SESSION", help="Only tasks of this session.")
@click.option("--state", type=click.Choice([s.value for s in State]), multiple=True, help="Only tasks in this state.")
@click.option("--cause", type=click.Choice([c.value for c in CauseCode]), multiple=True, help="Ended for this cause.")
@click.option("--kind", multiple=True, help="Only tasks of this kind.")
@click.option("--label", multiple=True, metavar="KEY[=VALUE]", help="Only tasks with this label.")
@click.option("--queue", help="Only tasks of this queue.")
@click.option("--parent", type=TASK, metavar="ID", help="Only tasks that this one submitted.")
@click.option("--awaiting", is_flag=True, help="Only tasks that await an answer.")
@click.option("-q", "--search", metavar="TEXT", help="Text in the name or the command.")
@click.option("--since", type=AGO, metavar="TIME", help="Created since a time, or so long ago: 2h, 7d.")
@click.option("-n", "--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many.")
@click.option("-a", "--all", "everything", is_flag=True, help="No limit.")
@with_agent
async def command(
    agent: Client,
    at: Invocation,
    session: str | None,
    state: tuple[str, ...],
    cause: tuple[str, ...],
    kind: tuple[str, ...],
    label: tuple[str, ...],
    queue: str | None,
    parent: str | None,
    awaiting: bool,
    search: str | None,
    since: str | None,
    limit: int,
    everything: bool,
) -> None:
    """List tasks, newest first.

    Of a session's finished tasks these are the latest (`policy.tasks_kept`); `agentd sessions history` has them all.
    """
    query = TaskQuery(
        state=tuple(State(s) for s in state),
        cause=tuple(CauseCode(c) for c in cause),
        kind=kind,
        label=label,
        queue=queue,
        parent=None if parent is None else (await task_of(agent, parent)).task_id,
        awaiting=awaiting or None,
        q=search,
        since=since,
        limit=PAGE if everything else min(limit, PAGE),
    )
    session_id = None if session is None else await session_of(agent, session)
    rows: list[Task] = []
    page: Page[Task] = await agent.tasks(query, session_id=session_id)
    rows.extend(page.data)
    while page.next is not None and (everything or len(rows) < limit):
        page = await agent.tasks(_after(query, page.next), session_id=session_id)
        rows.extend(page.data)
    cut = not everything and (len(rows) > limit or page.next is not None)
    at.printer.rows(
        list(rows if everything else itertools.islice(rows, limit)),
        TASKS,
        lambda task: task.task_id,
        next_cursor=page.next if cut else None,
        empty="no tasks",
    )
    if cut and at.output == "table":
        notice(f"the newest {limit} of more; --all shows them all")


def _after(query: TaskQuery, cursor: str) -> TaskQuery:
    from msgspec.structs import replace

    return replace(query, cursor=cursor)
