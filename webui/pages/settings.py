"""Who is logged in, by which tokens and as what; for admins how the viewer is set up, and care of the agents."""

from __future__ import annotations

from datetime import UTC, datetime

from webui.identity import Role
from webui.rendering import Page
from webui.routes import Route
from webui.upstream import Agent
from webui.visit import Visit


async def settings(visit: Visit) -> Page:
    """The login and the agents; of tokens only whose they are."""
    await visit.ask_each(visit.agents, "/status")
    rows = [
        {
            "agent": agent.name,
            "url": agent.url,
            "source": agent.source,
            "token": _token(visit, agent),
            "role": visit.role_at(agent.name).name.lower(),
            "contact": visit.contacts[agent.name],
        }
        for agent in visit.agents
    ]
    login = {
        "role": Role(visit.identity.role).name.lower(),
        "by_link": bool(visit.identity.configured),
        "until": datetime.fromtimestamp(visit.identity.expires_at, UTC).isoformat(timespec="seconds"),
    }
    config = visit.settings.config
    return Page(
        template="settings.html",
        title="Settings",
        model={"login": login, "data": rows},
        extra={"file": str(config) if config is not None else None, "file_problem": visit.roster.file_problem},
        live=None,
    )


def _token(visit: Visit, agent: Agent) -> str | None:
    """Whose token goes to an agent: this login's own, or the viewer's; None when there is none."""
    if agent.name in visit.identity.tokens:
        return "login"
    return "viewer" if visit.identity.token_for(agent.name, agent.token) else None


ROUTES: tuple[Route, ...] = (("GET", "/settings", settings),)
