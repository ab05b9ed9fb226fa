"""agentd progress: a task tells how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.parameters import LIVE_TASK
from agentd.cli.tables import task_facts
from agentd.model.reports import ProgressReport

if TYPE_CHECKING:
    from agentd.client import Client


@click.command("progress")
@click.argument("percent", type=click.FloatRange(0, 100), required=False)
@click.option("--phase", help="What it does now, in a word.")
@click.option("--message", help="A sentence about it.")
@click.option("--items", type=click.IntRange(0), metavar="N", help="How many items are done.")
@click.option("--failed", type=click.IntRange(0), metavar="N", help="How many of them failed.")
@click.option(
    "--task", "task_id", type=LIVE_TASK, metavar="ID", envvar="AGENTD_TASK_ID", help="[default: the one this runs in]"
)
@with_agent
async def command(
    agent: Client,
    at: Invocation,
    percent: float | None,
    phase: str | None,
    message: str | None,
    items: int | None,
    failed: int | None,
    task_id: str | None,
) -> None:
    """Report how far the task is that this runs in.

    Inside a task, AGENTD_URL, AGENTD_TOKEN and AGENTD_TASK_ID are set, and nothing else is needed.
    """
    if task_id is None:
        raise click.UsageError("this does not run in a task; say which is meant: --task ID")
    report = ProgressReport(progress=percent, phase=phase, message=message, items_processed=items, items_failed=failed)
    if report == ProgressReport():
        raise click.UsageError("say something: a percentage, --phase, --message, --items or --failed")
    task = await agent.report_progress(task_id, report)
    if at.output != "table":
        at.printer.one(task, task.task_id, task_facts)
