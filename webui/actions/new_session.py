"""The form that makes a session, out of what the agent says a new session takes."""

from __future__ import annotations

from aiohttp import web

from webui.actions.filling import Filled, agent_for, agent_of
from webui.actions.outcomes import ACT_S, NOT_SENT, Action, act, not_done, posted, see_other
from webui.description import Description, described
from webui.identity import Role
from webui.rendering import Page
from webui.routes import Route
from webui.rows import one
from webui.upstream import Agent, Answer, segment
from webui.visit import Visit, session_url

#: Shown at once; what else a session takes is rare.
FIRST = ("session_id", "title", "labels")


async def show(visit: Visit) -> Page:
    """`?agent=` chooses where."""
    visit.require(Role.OPERATOR)
    agent = agent_for(visit, visit.query.get("agent"))
    description = await described(visit, agent) if agent is not None else None
    return _page(agent, description, Filled())


async def make(visit: Visit) -> Page | web.Response:
    """Make it, and go to it."""
    form = await posted(visit)
    agent = agent_of(visit, form)
    filled = Filled.of(form)
    description = await described(visit, agent, within_s=ACT_S)
    if description is None:
        action = Action(title="Make the session", truth=f"/?agent={segment(agent.name)}", again=NOT_SENT)
        return not_done(visit, Answer(contact=visit.contacts[agent.name]), action, form)
    fields = description.session_fields()
    values = filled.values(fields)
    if values is None:
        return _page(agent, description, filled)
    answer = await act(visit, agent, "POST", "/sessions", body=values, key=filled.key)
    made = one(visit, answer, "session_id")
    if made is not None:
        return see_other(visit, session_url(agent.name, made["session_id"]))
    filled.refused(visit, fields, answer)
    return _page(agent, description, filled)


def _page(agent: Agent | None, description: Description | None, filled: Filled) -> Page:
    fields = description.session_fields() if description is not None else ()
    name = agent.name if agent is not None else None
    return filled.page("new_session.html", "New session", fields, {"agent": name}, first=FIRST)


ROUTES: tuple[Route, ...] = (("GET", "/sessions/new", show), ("POST", "/sessions/new", make))
