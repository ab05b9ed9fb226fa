"""The agents: whether each answers, what it is and does, its clock and its disk."""

from __future__ import annotations

from datetime import UTC, datetime

from webui.contact import Contact, Status
from webui.rendering import Page
from webui.routes import Route
from webui.rows import Row, one
from webui.visit import Visit
from webui.words import duration, moment

#: A clock further off than this makes times on pages misleading.
CLOCK_OFF_MS = 5000
#: Of the disk; with less, writes of large outputs soon fail.
DISK_LOW = 0.05
#: The states of an agent that need someone.
TROUBLED = ("degraded", "draining")
SOURCES = {
    "flag": "from --agent",
    "environment": "from the environment",
    "file": "from webui.yaml",
    "local": "found on this machine",
}
#: Fields of GET /status that the page has a place for, there or on the page of the workers; others are listed.
_KNOWN = {
    *("agent", "agent_id", "version", "boot_id", "state", "current", "queue", "workers", "disk", "sessions"),
    "started_at",
}


async def agents(visit: Visit) -> Page:
    """Every agent there is, those with problems first: that do not answer, that need someone, the others."""
    rows = []
    for agent, answer in await visit.ask_each(visit.agents, "/status"):
        visit.note_not_taken(answer)
        status = one(visit, answer, "agent_id", "state")
        contact = visit.contacts[agent.name]
        rows.append(
            Row(
                agent=agent.name,
                url=agent.url,
                source=agent.source,
                contact=contact,
                uptime_s=_uptime_s(status, contact),
                status=status,
            )
        )
    rows.sort(key=_urgency)
    return Page(
        template="agents.html",
        title="Agents",
        model={"data": rows},
        extra={
            "file_problem": visit.roster.file_problem,
            "sources": SOURCES,
            "clock": clock,
            "started": _utc,
            "CLOCK_OFF_MS": CLOCK_OFF_MS,
            "DISK_LOW": DISK_LOW,
            "more_of": lambda status: {name: value for name, value in status.items() if name not in _KNOWN},
        },
    )


def clock(skew_ms: int | None) -> str:
    """How an agent's clock stands against the viewer's, in words."""
    if skew_ms is None:
        return "its clock is unknown"
    if abs(skew_ms) < 1000:
        return "its clock agrees with the viewer's"
    return f"its clock is {duration(round(abs(skew_ms) / 1000))} {'ahead' if skew_ms > 0 else 'behind'}"


def _utc(time: object) -> str:
    at = moment(time)
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if at is not None else str(time)


def _urgency(row: Row) -> tuple[int, str]:
    if row["contact"].status is not Status.FRESH or row["status"] is None:
        return 0, row["agent"]
    disk = row["status"]["disk"]
    troubled = row["status"]["state"] in TROUBLED or (isinstance(disk, Row) and bool(disk["full"]))
    off = abs(row["contact"].skew_ms or 0) > CLOCK_OFF_MS
    return 1 if troubled or off else 2, row["agent"]


def _uptime_s(status: Row | None, contact: Contact) -> float | None:
    """Since its start, by its own clock."""
    started = moment(status["started_at"]) if status is not None else None
    if started is None:
        return None
    return max(0.0, (datetime.now(UTC) - started).total_seconds() + (contact.skew_ms or 0) / 1000)


ROUTES: tuple[Route, ...] = (("GET", "/agents", agents),)
