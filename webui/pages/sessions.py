"""The sessions of all agents, and what runs in them now: the first page."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from webui.clocks import ran_s, time_at
from webui.merging import SESSION_SORTS, Order, merged
from webui.rendering import Page
from webui.routes import Route
from webui.rows import Row
from webui.totals import totals
from webui.visit import Visit

STATES = ("working", "queued", "idle", "damaged")
PAGE_ROWS = 50
#: Of the tasks that run in a session; more are on its page.
RUNNING_SHOWN = 3


async def sessions(visit: Visit) -> Page:
    """`?agent=&state=&q=&label=&since=&archived=&sort=&limit=&cursor=`, as the agents' own GET /sessions has them."""
    agents = visit.asked_agents()
    order = Order(visit.choice("sort", SESSION_SORTS), "session_id")
    (rows, following), (known, running) = await asyncio.gather(
        merged(
            visit,
            agents,
            "/sessions",
            visit.passed_on("state", "q", "label", "since", "archived"),
            order,
            limit=visit.limit(PAGE_ROWS),
            cursor=visit.query.get("cursor"),
        ),
        totals(visit, agents),
    )
    listed = {(row["agent"], row["session_id"]) for row in rows}
    running = [task for task in running if (task["agent"], task["session_id"]) in listed]
    runs: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for task in running:
        runs[task["agent"], task["session_id"]].append(task)
    return Page(
        template="sessions.html",
        title="Sessions",
        model={"data": rows, "next": following, "totals": known, "running": running},
        extra={
            "sorts": SESSION_SORTS,
            "states": STATES,
            "sort": order.name,
            "runs": runs,
            "RUNNING_SHOWN": RUNNING_SHOWN,
            "ran": lambda task: ran_s(task, time_at(visit.contacts.get(task["agent"]))),
        },
    )


ROUTES: tuple[Route, ...] = (("GET", "/", sessions),)
