"""agentd status: the daemon at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agentd.cli import wording
from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.printing import Look, facts

if TYPE_CHECKING:
    from agentd.client import Client


@click.command("status")
@with_agent
async def command(agent: Client, at: Invocation) -> None:
    """Show what the daemon is and does now."""
    status = await agent.status()
    url = at.endpoint().url
    at.printer.one(status, str(status.get("agent_id", "")), lambda status, look: _table(status, url, look))


def _table(status: dict[str, Any], url: str, look: Look) -> None:
    queue, workers, disk = (status.get(part) or {} for part in ("queue", "workers", "disk"))
    oldest = queue.get("oldest_age_s")
    refusal = f", takes no writes: {disk['refusal']}" if disk.get("refusal") else ""
    full = ", full" if disk.get("full") else refusal
    facts(
        [
            ("agent", str(status.get("agent_id", ""))),
            ("url", url),
            ("state", str(status.get("state", ""))),
            ("version", str(status.get("version", ""))),
            ("started", look.when_long(status.get("started_at"))),
            ("running", ", ".join(task["task_id"] for task in status.get("current") or ())),
            ("queued", str(queue.get("depth", 0)) + (f", oldest {wording.duration(oldest)}" if oldest else "")),
            ("waiting", str(queue.get("waiting") or "")),
            ("workers", ", ".join(f"{workers[name]} {name}" for name in ("busy", "idle", "max") if name in workers)),
            ("sessions", str(status.get("sessions", ""))),
            ("disk", f"{wording.size(disk.get('free_bytes'))} free of {wording.size(disk.get('total_bytes'))}{full}"),
        ],
        look,
    )
