"""Cleanup, rehearsed before it is done, and the emergency reset, which asks twice and says what it did."""

from __future__ import annotations

from aiohttp import web

from webui.actions.outcomes import SAFE, UNSAFE, Action, act, not_done, posted
from webui.identity import Role
from webui.rendering import Page
from webui.routes import Route
from webui.rows import one
from webui.upstream import segment
from webui.visit import Visit

#: Both walk over everything that an agent has.
CARE_S = 60.0
#: Field of the reset's form in which the agent's name is typed.
CONFIRM = "confirm"


async def rehearse(visit: Visit) -> Page:
    """What a cleanup would remove now."""
    visit.require(Role.ADMIN)
    agent = visit.agent()
    answer = await act(visit, agent, "POST", "/admin/cleanup", params=[("dry_run", "true")], within_s=CARE_S)
    if answer.problem is not None:
        return not_done(visit, answer, Action(title="Rehearse the cleanup", truth="/agents"), {})
    report = one(visit, answer)
    return _report(visit, "cleanup.html", f"Clean up {agent.name}", report=report, dry_run=True)


async def clean(visit: Visit) -> Page:
    """Apply retention now, and say what went."""
    form = await posted(visit, Role.ADMIN)
    agent = visit.agent()
    answer = await act(visit, agent, "POST", "/admin/cleanup", within_s=CARE_S)
    report = one(visit, answer)
    if report is None:
        truth = f"/a/{segment(agent.name)}/cleanup"
        return not_done(visit, answer, Action(title="Clean up", truth=truth, again=SAFE), form)
    return _report(visit, "cleanup.html", f"Cleaned up {agent.name}", report=report, dry_run=False)


async def reset_first(visit: Visit) -> Page:
    """What a reset would end, and a field for the agent's name: nobody does it by a slip."""
    visit.require(Role.ADMIN)
    return await _ask_reset(visit, None)


async def reset(visit: Visit) -> Page | web.Response:
    """End all that is live and replace every worker, when the name was typed; and say what was done."""
    form = await posted(visit, Role.ADMIN)
    agent = visit.agent()
    if form.get(CONFIRM) != agent.name:
        return await _ask_reset(visit, f"Type {agent.name} to say that this is what you want. Nothing was done.")
    answer = await act(visit, agent, "POST", "/admin/reset", within_s=CARE_S)
    report = one(visit, answer)
    if report is None:
        action = Action(title="Emergency reset", truth=f"/queue?agent={segment(agent.name)}", again=UNSAFE)
        return not_done(visit, answer, action, {})
    return _report(visit, "reset.html", f"{agent.name} was reset", report=report, wrong=None, status=None)


async def _ask_reset(visit: Visit, wrong: str | None) -> Page:
    agent = visit.agent()
    status = one(visit, await visit.ask(agent, "/status"))
    page = _report(visit, "reset.html", f"Reset {agent.name}", report=None, wrong=wrong, status=status)
    page.status = 422 if wrong else 200
    return page


def _report(visit: Visit, template: str, title: str, **model: object) -> Page:
    return Page(template=template, title=title, model={"agent": visit.part("agent"), **model}, live=None)


ROUTES: tuple[Route, ...] = (
    ("GET", "/a/{agent}/cleanup", rehearse),
    ("POST", "/a/{agent}/cleanup", clean),
    ("GET", "/a/{agent}/reset", reset_first),
    ("POST", "/a/{agent}/reset", reset),
)
