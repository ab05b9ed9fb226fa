"""agentd workers: the pool of processes that tasks run under."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.printing import Column, facts
from agentd.model.launch import Capacity
from agentd.model.requests import Scale, WorkerView

if TYPE_CHECKING:
    from agentd.client import Client

COLUMNS = (
    Column[WorkerView]("WORKER", lambda worker, look: worker.worker_id),
    Column[WorkerView]("PID", lambda worker, look: str(worker.pid), right=True),
    Column[WorkerView]("STATE", lambda worker, look: worker.state),
    Column[WorkerView]("TASK", lambda worker, look: worker.task_id or ""),
    Column[WorkerView]("STARTED", lambda worker, look: look.when(worker.started_at)),
    Column[WorkerView]("DONE", lambda worker, look: str(worker.tasks_done), right=True),
    Column[WorkerView]("RESTARTS", lambda worker, look: str(worker.restarts), right=True),
)


@click.group("workers")
def command() -> None:
    """See and change the pool of workers."""


@command.command("list")
@with_agent
async def _list(agent: Client, at: Invocation) -> None:
    """List the workers."""
    workers = await agent.workers()
    at.printer.rows(workers, COLUMNS, lambda worker: worker.worker_id, empty="no workers")


@command.command("restart")
@click.argument("worker_id", metavar="WORKER")
@with_agent
async def _restart(agent: Client, at: Invocation, worker_id: str) -> None:
    """Replace a worker; a task that it runs ends as worker_lost."""
    worker = await agent.restart_worker(worker_id)
    at.printer.rows([worker], COLUMNS, lambda each: each.worker_id)


@command.command("scale")
@click.option("--min", "minimum", type=click.IntRange(0, 1000), metavar="N", help="Kept ready.")
@click.option("--max", "maximum", type=click.IntRange(1, 1000), metavar="N", help="Tasks that can run at once.")
@with_agent
async def _scale(agent: Client, at: Invocation, minimum: int | None, maximum: int | None) -> None:
    """Change how many workers there are, until the daemon restarts."""
    if minimum is None and maximum is None:
        raise click.UsageError("say --min, --max or both")
    capacity = await agent.scale(Scale(min=minimum, max=maximum))
    at.printer.one(
        capacity,
        str(capacity.max),
        lambda value, look: facts(_words(value), look),
    )


def _words(capacity: Capacity) -> list[tuple[str, str]]:
    return [
        ("max", str(capacity.max)),
        ("busy", str(capacity.busy)),
        ("idle", str(capacity.idle)),
        ("starting", str(capacity.starting)),
        ("degraded", "yes" if capacity.degraded else ""),
    ]
