"""The whole log of a task: its page, windows of lines for scripts, search, bytes, and one long line opened."""

from __future__ import annotations

from webui.logs.window import channel, first_window, whole_number
from webui.refusals import Refusal
from webui.rendering import Page
from webui.routes import Route
from webui.rows import Row, one
from webui.upstream import Agent, segment
from webui.visit import Visit

_AT = "/a/{agent}/s/{session}/t/{task}/log"


async def log(visit: Visit) -> Page:
    """`?attempt=&stream=&line=&ts=1&q=`; `follow=` is for the page's own script."""
    agent, task = await _task(visit)
    attempt = attempt_of(visit)
    names = visit.request.match_info
    window = await first_window(visit, agent, task, attempt) if task is not None else None
    return Page(
        template="log.html",
        title=f"Log of {names['task']}",
        model={"task": task, "log": window},
        extra={"agent": agent.name, "session_id": names["session"], "task_id": names["task"]},
        live={
            "agent": agent.name,
            "session": names["session"],
            "log": channel(visit, agent.name, names["task"], attempt),
        },
    )


def attempt_of(visit: Visit) -> int | None:
    """The attempt that the address names; None for the latest."""
    return whole_number(visit, "attempt", 0, least=1) if visit.query.get("attempt") else None


async def _task(visit: Visit) -> tuple[Agent, Row | None]:
    """The agent and the task that the address names; None where the agent did not say.

    Raises:
        Refusal: there is no such task in the session.
    """
    names = visit.request.match_info
    agent = visit.agent(names["agent"])
    answer = await visit.ask(agent, f"/tasks/{segment(names['task'])}")
    if answer.problem is not None and answer.http_status == 404:
        raise Refusal(404, str(answer.problem.get("code")), str(answer.problem.get("detail")))
    task = one(visit, answer, "task_id", "session_id", "state")
    if task is not None and task["session_id"] != names["session"]:
        raise Refusal(404, "task_not_found", f"session {names['session']} has no task {names['task']}")
    return agent, task


ROUTES: tuple[Route, ...] = (("GET", _AT, log),)
