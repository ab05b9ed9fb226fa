"""Scale the pool of workers, and replace one."""

from __future__ import annotations

from aiohttp import web

from webui.actions.outcomes import UNSAFE, Action, act, ask_first, named, not_done, posted, see_other
from webui.identity import Role
from webui.refusals import Refusal
from webui.rendering import Page
from webui.routes import Route
from webui.upstream import segment
from webui.visit import Visit


async def scale(visit: Visit) -> Page | web.Response:
    """Change the bounds of the pool; what is left empty stays."""
    form = await posted(visit, Role.ADMIN)
    body = {name: _bound(name, str(form[name])) for name in ("min", "max") if form.get(name)}
    if not body:
        raise Refusal(422, "invalid", "min, max: give one of them, or both", hint="Go back and type a number.")
    answer = await act(visit, visit.agent(named(visit, "agent")), "POST", "/workers/scale", body=body)
    if not answer.ok:
        return not_done(visit, answer, Action(title="Scale the workers", truth=_truth(visit)), form)
    return see_other(visit, _truth(visit))


def _bound(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Refusal(422, "invalid", f"{name}: {text[:40]!r} is no whole number", hint="Go back and type a number.")
    return int(text)


async def restart_first(visit: Visit) -> Page:
    """Ask before a worker is replaced."""
    visit.require(Role.ADMIN)
    visit.agent(named(visit, "agent"))
    return ask_first(
        title=f"Replace the worker {named(visit, 'worker')}?",
        says=["A task that it runs ends as worker_lost; it runs again only if its retries say so."],
        button="Replace it",
        at=f"/a/{segment(named(visit, 'agent'))}/workers/{segment(named(visit, 'worker'))}/restart",
        truth=_truth(visit),
    )


async def restart(visit: Visit) -> Page | web.Response:
    """Replace a worker."""
    form = await posted(visit, Role.ADMIN)
    path = f"/workers/{segment(named(visit, 'worker'))}/restart"
    answer = await act(visit, visit.agent(named(visit, "agent")), "POST", path)
    if not answer.ok:
        return not_done(visit, answer, Action(title="Replace the worker", truth=_truth(visit), again=UNSAFE), form)
    return see_other(visit, _truth(visit))


def _truth(visit: Visit) -> str:
    return f"/workers?agent={segment(named(visit, 'agent'))}"


ROUTES: tuple[Route, ...] = (
    ("POST", "/a/{agent}/workers/scale", scale),
    ("GET", "/a/{agent}/workers/{worker}/restart", restart_first),
    ("POST", "/a/{agent}/workers/{worker}/restart", restart),
)
