"""Tasks of all agents, latest first: those that have ended, unless others are asked for."""

from __future__ import annotations

import re
from datetime import date, timedelta

from webui.causes import CODES
from webui.merging import TASK_SORTS, Order, merged
from webui.refusals import Refusal
from webui.rendering import Page
from webui.routes import Route
from webui.visit import Visit
from webui.words import ACTIVE, TERMINAL

PAGE_ROWS = 50
#: What `state` may be beside a state: all of them.
ANY = "any"
#: What `state` may be, too: running, and waiting for the answer of a person.
AWAITING = "awaiting"
#: What the filters suggest, with the codes of causes; any other is passed on as typed, for an agent that knows more.
TRIGGERS = ("manual", "schedule", "api", "webhook", "retry", "workflow")

_DAY = re.compile(r"\d{4}-\d\d-\d\d")


async def history(visit: Visit) -> Page:
    """`?agent=&state=&cause=&kind=&trigger=&label=&queue=&q=&since=&until=&sort=&limit=&cursor=`.

    As the agents' own GET /tasks has them, but: without `state` those that have ended are listed, `state=any` lists
    all, `state=awaiting` those that await the answer of a person; `since` and `until` may be days of UTC, of which
    `until` is the last one listed.
    """
    order = Order(visit.choice("sort", TASK_SORTS), "task_id")
    rows, following = await merged(
        visit,
        visit.asked_agents(),
        "/tasks",
        [
            *_states(visit),
            *visit.passed_on("cause", "kind", "trigger", "label", "queue", "q"),
            *_time(visit, "since", days_later=0),
            *_time(visit, "until", days_later=1),
        ],
        order,
        limit=visit.limit(PAGE_ROWS),
        cursor=visit.query.get("cursor"),
    )
    kinds = {"shell", *(str(row["kind"]) for row in rows if row["kind"])}
    return Page(
        template="history.html",
        title="History",
        model={"data": rows, "next": following},
        extra={
            "states": (*TERMINAL, *ACTIVE, AWAITING, ANY),
            "sorts": {"-created_at": "newest", "created_at": "oldest"},
            "suggested": {"cause": CODES, "trigger": TRIGGERS, "kind": sorted(kinds)},
            "is_day": lambda text: not text or _DAY.fullmatch(text) is not None,
        },
    )


def _states(visit: Visit) -> list[tuple[str, str]]:
    if AWAITING in visit.query.getall("state", []):
        return [("awaiting", "true")]
    given = visit.passed_on("state") or [("state", state) for state in TERMINAL]
    return [] if ("state", ANY) in given else given


def _time(visit: Visit, name: str, *, days_later: int) -> list[tuple[str, str]]:
    """A limit in time for the agents: a day becomes its beginning, or that of so many days later."""
    given = visit.query.get(name, "")
    if not _DAY.fullmatch(given):
        return visit.passed_on(name)
    try:
        day = date.fromisoformat(given) + timedelta(days=days_later)
    except (ValueError, OverflowError):
        raise Refusal(400, "malformed", f"{name}: there is no day {given}; give one as 2030-01-31") from None
    return [(name, f"{day}T00:00:00Z")]


ROUTES: tuple[Route, ...] = (("GET", "/history", history),)
