"""The agents: whether each answers, what it is, its clock and disk."""

from __future__ import annotations

from webui.rendering import Page
from webui.routes import Route
from webui.rows import Row, one
from webui.visit import Visit


async def agents(visit: Visit) -> Page:
    """Every agent there is, those that do not answer first."""
    rows = []
    for agent, answer in await visit.ask_each(visit.agents, "/status"):
        status = one(visit, answer, "agent_id", "state")
        contact = visit.contacts[agent.name]
        rows.append(Row(agent=agent.name, url=agent.url, source=agent.source, contact=contact, status=status))
    rows.sort(key=lambda row: (row["status"] is not None, row["agent"]))
    return Page(
        template="agents.html",
        title="Agents",
        model={"data": rows},
        extra={"file_problem": visit.roster.file_problem},
    )


ROUTES: tuple[Route, ...] = (("GET", "/agents", agents),)
