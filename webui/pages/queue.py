"""What is queued or waiting at each agent, in the order in which it runs, and why each waits."""

from __future__ import annotations

from webui.pages.windows import windows
from webui.rendering import Page
from webui.routes import Route
from webui.rows import Row, many, one
from webui.visit import Visit

#: Of each agent; more are pages of that agent alone.
AGENT_ROWS = 50


async def queue(visit: Visit) -> Page:
    """`?agent=&limit=&cursor=`: the agents' own GET /queue, one beside the other."""
    queues = []
    for agent, answer in await windows(visit, "/queue", AGENT_ROWS):
        if (rows := many(visit, answer, "task_id")) is not None and (found := one(visit, answer)) is not None:
            queues.append(Row(found, data=rows))
        else:
            queues.append(Row(agent=agent.name, data=None, contact=visit.contacts[agent.name]))
    return Page(template="queue.html", title="Queue", model={"data": queues})


ROUTES: tuple[Route, ...] = (("GET", "/queue", queue),)
