"""What became of the tasks of the last days, and how long they took: counted from the agents' own lists."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from webui import charts
from webui.analysis import Sums, TaskPage, states_in_order
from webui.refusals import Refusal
from webui.rendering import Page
from webui.routes import Route
from webui.upstream import Agent
from webui.visit import Visit
from webui.words import look

DAYS = (7, 30, 90)
MAX_DAYS = 90
PAGE_TASKS = 1000
#: Of one agent, and of all together: a page must not cost more than it is worth.
MOST_TASKS = 10_000
MOST_TASKS_IN_ALL = 200_000


class Short(msgspec.Struct, kw_only=True):
    """An agent of which only the newest tasks are counted, and why."""

    agent: str
    tasks: int
    reason: str
    late: bool = False  #: whether asking again with more patience helps


async def analytics(visit: Visit) -> Page:
    """`?days=7&agent=&kind=`: sums over the tasks submitted on the last days, of UTC, today among them."""
    now = datetime.now(UTC)
    days = _days(visit)
    window = [(now - timedelta(days=back)).date().isoformat() for back in reversed(range(days))]
    agents = visit.asked_agents()
    sums = Sums(window)
    asked = [("since", f"{window[0]}T00:00:00Z"), *visit.passed_on("kind")]
    most = max(PAGE_TASKS, min(MOST_TASKS, MOST_TASKS_IN_ALL // max(1, len(agents))))
    found = await asyncio.gather(*(_read(visit, agent, asked, most, sums) for agent in agents))
    figures = await asyncio.to_thread(sums.figures)
    short = [each for each in found if each is not None]
    return Page(
        template="analytics.html",
        title="Analytics",
        model={"days": days, "as_of": f"{now:%Y-%m-%dT%H:%M:%SZ}", **figures, "short": short},
        extra=_drawn(figures["by_day"]),
        live=None,
    )


def _days(visit: Visit) -> int:
    given = visit.query.get("days") or str(DAYS[0])
    if not re.fullmatch(r"[0-9]{1,3}", given) or not 1 <= int(given) <= MAX_DAYS:
        raise Refusal(400, "malformed", f"days: must be 1 to {MAX_DAYS}")
    return int(given)


async def _read(visit: Visit, agent: Agent, asked: list[tuple[str, str]], most: int, sums: Sums) -> Short | None:
    """Count in an agent's tasks, newest first, page by page within the patience; what of them was left out."""
    loop = asyncio.get_running_loop()
    end = loop.time() + visit.patience_s
    read = 0
    window = [*asked, ("limit", str(PAGE_TASKS)), ("sort", "-created_at")]
    cursor: list[tuple[str, str]] = []
    while True:
        left = max(0.0, end - loop.time())
        answer = await visit.upstream.ask(
            agent,
            "GET",
            "/tasks",
            token=visit.token_for(agent),
            within_s=left,
            params=[*window, *cursor],
            shape=TaskPage,
        )
        if not read:
            visit.note(answer.contact)
            visit.note_not_taken(answer)
        if not answer.ok:
            if not read:
                return None
            late = answer.contact.reason_code in ("slow", "read_timeout")
            reason = "the others did not come in time" if late else answer.contact.reason or "it refused the rest"
            return Short(agent=agent.name, tasks=read, reason=reason, late=late)
        page: TaskPage = answer.value
        sums.add(agent.name, page.data)
        read += len(page.data)
        if page.next is None or not page.data:
            return None
        if read >= most:
            return Short(agent=agent.name, tasks=read, reason="more are not counted")
        cursor = [("cursor", page.next)]


def _drawn(by_day: list[dict[str, Any]]) -> dict[str, Any]:
    """The geometry of the drawings."""
    states = states_in_order(state for day in by_day for state in day["counts"])
    counts = [[day["counts"].get(state, 0) for state in states] for day in by_day]
    count_marks = charts.marks(max((sum(column) for column in counts), default=0))
    pairs = [(day["p50_s"], day["p95_s"]) if day["p50_s"] is not None else None for day in by_day]
    scale = charts.duration_scale(value for pair in pairs if pair for value in pair)
    tones = [look(state).tone for state in states]
    return {
        "day_choices": sorted({*DAYS, len(by_day)}),
        "states": states,
        #: States of one tone are told apart: all but the first are fainter.
        "looks": [tone if tone not in tones[:at] else f"{tone} faint" for at, tone in enumerate(tones)],
        "count_marks": [(1 - mark / count_marks[-1], f"{mark:,}") for mark in count_marks],
        "bars": charts.stacked(counts, count_marks[-1]),
        "duration_marks": [(scale.y(mark), mark) for mark in scale.marks],
        "spans": charts.spans(pairs, scale),
        "day_labels": [(charts.middle(at, len(by_day)), by_day[at]["day"][5:]) for at in charts.labelled(len(by_day))],
    }


ROUTES: tuple[Route, ...] = (("GET", "/analytics", analytics),)
