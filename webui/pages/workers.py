"""The workers of each agent: how many there may be, and what each does."""

from __future__ import annotations

import asyncio

from webui.pages.windows import windows
from webui.rendering import Page
from webui.routes import Route
from webui.rows import Row, many, one
from webui.visit import Visit

#: Of each agent; more are pages of that agent alone.
AGENT_ROWS = 100


async def workers(visit: Visit) -> Page:
    """`?agent=&limit=&cursor=`: the agents' own GET /workers, with what GET /status says of the pool."""
    asked, statuses = await asyncio.gather(
        windows(visit, "/workers", AGENT_ROWS), visit.ask_each(visit.asked_agents(), "/status")
    )
    pools = []
    for (agent, answer), (_, told) in zip(asked, statuses, strict=True):
        rows = many(visit, answer, "worker_id")
        status = one(visit, told, "agent_id", "state")
        if rows is None or status is None:
            pools.append(Row(agent=agent.name, data=None, contact=visit.contacts[agent.name]))
            continue
        sessions = _sessions_of(status)
        for row in rows:
            row["session_id"] = sessions.get(str(row["task_id"]))
        pools.append(Row(agent=agent.name, status=status, data=rows, next=answer.value.get("next")))
    return Page(template="workers.html", title="Workers", model={"data": pools})


def _sessions_of(status: Row) -> dict[str, str]:
    """The session of each task that runs: what a link to it needs."""
    current = status["current"]
    tasks = [task for task in current if isinstance(task, Row)] if isinstance(current, list) else []
    return {str(task["task_id"]): task["session_id"] for task in tasks if isinstance(task["session_id"], str)}


ROUTES: tuple[Route, ...] = (("GET", "/workers", workers),)
