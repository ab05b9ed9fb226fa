"""Scale the pool of workers, and replace one."""

from __future__ import annotations

from aiohttp import web

from webui.actions.filling import Filled
from webui.actions.outcomes import UNSAFE, Action, act, ask_first, not_done, posted, see_other
from webui.identity import Role
from webui.rendering import Page
from webui.routes import Route
from webui.schema_form import fields_of
from webui.upstream import Agent, segment
from webui.visit import Visit

#: The bounds of a pool, as the agents' own schema has them.
_FIELDS = fields_of(
    {
        "properties": {
            "min": {"type": "integer", "minimum": 0, "maximum": 1000, "title": "Kept ready"},
            "max": {"type": "integer", "minimum": 1, "maximum": 1000, "title": "At most"},
        }
    },
    {},
)


async def scale(visit: Visit) -> Page | web.Response:
    """Change the bounds of the pool; what is left empty stays."""
    form = await posted(visit, Role.ADMIN)
    agent = visit.agent()
    filled = Filled.of(form)
    body = filled.values(_FIELDS)
    if body is None:
        return _scale(agent, filled)
    if not body:
        filled.status, filled.notices = 422, ["Give one of the two, or both."]
        return _scale(agent, filled)
    answer = await act(visit, agent, "POST", "/workers/scale", body=body)
    if answer.ok:
        return see_other(visit, _truth(visit))
    if answer.http_status == 422:
        filled.refused(visit, _FIELDS, answer)
        return _scale(agent, filled)
    return not_done(visit, answer, Action(title="Scale the workers", truth=_truth(visit)), form)


def _scale(agent: Agent, filled: Filled) -> Page:
    """The form again, with what is wrong in it."""
    return filled.page("scale.html", f"Scale the workers of {agent.name}", _FIELDS, {"agent": agent.name})


async def restart_first(visit: Visit) -> Page:
    """Ask before a worker is replaced."""
    visit.require(Role.ADMIN)
    visit.agent()
    return ask_first(
        title=f"Replace the worker {visit.part('worker')}?",
        says=["A task that it runs ends as worker_lost; it runs again only if its retries say so."],
        button="Replace it",
        at=f"/a/{segment(visit.part('agent'))}/workers/{segment(visit.part('worker'))}/restart",
        truth=_truth(visit),
    )


async def restart(visit: Visit) -> Page | web.Response:
    """Replace a worker."""
    form = await posted(visit, Role.ADMIN)
    path = f"/workers/{segment(visit.part('worker'))}/restart"
    answer = await act(visit, visit.agent(), "POST", path)
    if not answer.ok:
        return not_done(visit, answer, Action(title="Replace the worker", truth=_truth(visit), again=UNSAFE), form)
    return see_other(visit, _truth(visit))


def _truth(visit: Visit) -> str:
    return f"/workers?agent={segment(visit.part('agent'))}"


ROUTES: tuple[Route, ...] = (
    ("POST", "/a/{agent}/workers/scale", scale),
    ("GET", "/a/{agent}/workers/{worker}/restart", restart_first),
    ("POST", "/a/{agent}/workers/{worker}/restart", restart),
)
