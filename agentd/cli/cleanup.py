"""agentd cleanup: retention, now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agentd.cli import wording
from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.printing import Look, facts
from agentd.model.upkeep import CleanupReport

if TYPE_CHECKING:
    from agentd.client import Client


@click.command("cleanup")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@with_agent
async def command(agent: Client, at: Invocation, dry_run: bool) -> None:
    """Remove what retention no longer keeps. That is old finished tasks, output and sessions."""
    at.printer.one(await agent.cleanup(dry_run=dry_run), "", _table)


def _table(report: CleanupReport, look: Look) -> None:
    facts(
        [
            ("would remove" if report.dry_run else "removed", wording.size(report.bytes)),
            ("finished tasks", str(report.tasks)),
            ("outputs", str(report.outputs)),
            ("sessions", ", ".join(report.sessions) or "0"),
        ],
        look,
    )
