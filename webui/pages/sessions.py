"""The sessions of all agents, and what runs now: the first page."""

from __future__ import annotations

import asyncio

from webui.merging import Order, merged
from webui.rendering import Page
from webui.routes import Route
from webui.totals import totals
from webui.visit import Visit

SORTS = ("-updated_at", "updated_at", "-created_at", "created_at", "session_id")
STATES = ("working", "queued", "idle", "damaged")
PAGE_ROWS = 50


async def sessions(visit: Visit) -> Page:
    """`?agent=&state=&q=&label=&since=&archived=&sort=&limit=&cursor=`, as the agents' own GET /sessions has them."""
    agents = visit.asked_agents()
    order = Order(visit.choice("sort", SORTS), "session_id")
    (rows, following), known = await asyncio.gather(
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
    return Page(
        template="sessions.html",
        title="Sessions",
        model={"data": rows, "next": following, "totals": known},
        extra={"sorts": SORTS, "states": STATES, "sort": order.name},
    )


ROUTES: tuple[Route, ...] = (("GET", "/", sessions),)
