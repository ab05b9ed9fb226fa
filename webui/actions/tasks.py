"""Cancel and retry tasks."""

from __future__ import annotations

from aiohttp import web

from webui.actions.outcomes import SAFE_BY_KEY, Action, act, back, not_done, posted, see_other
from webui.rendering import Page
from webui.routes import Route
from webui.rows import one
from webui.upstream import segment
from webui.visit import Visit, task_url


async def cancel(visit: Visit) -> Page | web.Response:
    """Ask a task to end."""
    form = await posted(visit)
    answer = await act(visit, visit.agent(), "POST", f"/tasks/{_task(visit)}/cancel")
    if not answer.ok:
        return not_done(visit, answer, Action(title="Cancel the task", truth=_truth(visit)), form)
    return back(visit, form, _truth(visit))


async def retry(visit: Visit) -> Page | web.Response:
    """Make a new task from one that has ended, and go to it."""
    form = await posted(visit)
    agent = visit.agent()
    answer = await act(visit, agent, "POST", f"/tasks/{_task(visit)}/retry", key=form.get("key"))
    made = one(visit, answer, "task_id", "session_id")
    if made is None:
        action = Action(title="Retry the task", truth=_truth(visit), again=SAFE_BY_KEY)
        return not_done(visit, answer, action, form)
    return see_other(visit, task_url(agent.name, made["session_id"], made["task_id"]))


def _task(visit: Visit) -> str:
    return segment(visit.part("task"))


def _truth(visit: Visit) -> str:
    return task_url(visit.part("agent"), visit.part("session"), visit.part("task"))


_TASK = "/a/{agent}/s/{session}/t/{task}"

ROUTES: tuple[Route, ...] = (
    ("POST", f"{_TASK}/cancel", cancel),
    ("POST", f"{_TASK}/retry", retry),
)
