"""One session: its tasks, their timeline, what happened, its artifacts and what can be done with it."""

from __future__ import annotations

import asyncio
from typing import Any

from webui import tasklist, words
from webui.clocks import ran_s, time_at
from webui.happenings import happening
from webui.refusals import Refusal
from webui.rendering import Page
from webui.routes import Route
from webui.rows import Row, many, subject
from webui.spending import limits, spent
from webui.timeline import timeline
from webui.upstream import Agent, segment
from webui.visit import Visit

EVENTS = 40
#: More than EVENTS, for those that came while the session was asked.
MOST_EVENTS = 2 * EVENTS
ARTIFACTS = 100
#: The latest runs of workflows; all are on a page of their own.
RUNS = 5
#: Tasks that await an answer of which the page says so at its top.
ASKING = 5

#: Fields that the page has a place for; the others are listed as they are.
_KNOWN = {
    *("agent", "session_id", "title", "labels", "policy", "owner", "archived", "conversations"),
    *("created_at", "updated_at", "seq", "state", "counts", "reason", "usage"),
}


async def session(visit: Visit) -> Page:
    """`?state=&q=&limit=&cursor=` of its tasks, `before=` of its events, `files=` the cursor of its artifacts.

    Raises:
        Refusal: there is no such session, or a parameter is wrong.
    """
    agent = visit.agent()
    session_id = visit.part("session")
    answer = await visit.ask(agent, f"/sessions/{segment(session_id)}")
    given = answer.value.pop("tasks", None) if isinstance(answer.value, dict) else None
    row = subject(visit, answer, "session_id", "state", hint=f"The sessions page lists those that {agent.name} has.")
    if row is None:
        return _page(agent, session_id, {"session": None}, {})
    tasks = _tasks(row, given)
    listing, events, artifacts, (runs, more_runs) = await asyncio.gather(
        tasklist.page(visit, agent, session_id, tasks),
        _events(visit, agent, session_id, row, tasks),
        _artifacts(visit, agent, session_id),
        _runs(visit, agent, session_id),
    )
    now = time_at(answer.contact)
    budget = row["policy"]["budget"] if isinstance(row["policy"], Row) else None
    budget_limits = limits(budget, spent(row["usage"], tasks, now))
    model = {
        "session": row,
        "tasks": listing.rows,
        "next": listing.next,
        "runs": runs,
        **events,
        **artifacts,
    }
    extra = {
        "states": (*words.ACTIVE, *words.TERMINAL),
        "counts": _counts(row),
        "policy": _policy(row),
        "first_failed": first_failed(tasks),
        "usage": row["usage"] if isinstance(row["usage"], Row) and row["usage"]["attempts"] else None,
        "limits": budget_limits,
        "nested": tasklist.nested,
        "agent": agent.name,
        "session_id": session_id,
        "more_runs": more_runs,
        "asking": [task for task in tasks if task["awaiting"] and task["state"] == "running"][:ASKING],
        "timeline": timeline(tasks, now),
        "happenings": [happening(event) for event in events["events"] or []],
        "names": {task["task_id"]: words.command_of(task) for task in (*tasks, *listing.rows)},
        "more_fields": {name: value for name, value in row.items() if name not in _KNOWN},
        "at": lambda time: words.when(time, now),
        "ran": lambda task: ran_s(task, now),
    }
    return _page(agent, session_id, model, extra, str(row["title"] or session_id))


def _tasks(row: Row, given: object) -> list[Row]:
    """The tasks that a session was answered with; rows at the top alone, for there may be thousands."""
    own = {"agent": row["agent"], "session_id": row["session_id"]}
    objects = [task for task in given if isinstance(task, dict)] if isinstance(given, list) else []
    return [Row({**own, **task}) for task in objects if isinstance(task.get("task_id"), str)]


def _page(agent: Agent, session_id: str, model: dict[str, Any], extra: dict[str, Any], title: str = "") -> Page:
    return Page(
        template="session.html",
        title=title or session_id,
        model=model,
        extra=extra,
        live={"agent": agent.name, "session": session_id},
    )


async def _events(visit: Visit, agent: Agent, session_id: str, row: Row, tasks: list[Row]) -> dict[str, Any]:
    """The latest events, or those before `?before=`, oldest first; None when they are unknown."""
    before = visit.query.get("before") or ""
    if before and not (before.isascii() and before.isdigit() and len(before) <= 18):
        raise Refusal(400, "malformed", "before: must be the number of an event", hint="Start again without it.")
    end = int(before) if before else 1 + max((_seq(each) for each in (row, *tasks)), default=0)
    after, most = max(end - EVENTS - 1, 0), EVENTS if before else MOST_EVENTS
    params = [("after", str(after)), ("limit", str(most))]
    answer = await visit.ask(agent, f"/sessions/{segment(session_id)}/events", params)
    rows = many(visit, answer, "type")
    if rows is None:
        return {"events": None, "events_older": None, "events_gap": None}
    rows = [event for event in rows if not before or _seq(event) < end][-EVENTS:]
    gap = answer.value.get("gap")
    first = _seq(rows[0]) if rows else after + 1
    return {"events": rows, "events_older": first if first > 1 and gap is None else None, "events_gap": gap}


async def _artifacts(visit: Visit, agent: Agent, session_id: str) -> dict[str, Any]:
    params = [("limit", str(ARTIFACTS)), *(("cursor", cursor) for cursor in [visit.query.get("files")] if cursor)]
    answer = await visit.ask(agent, f"/sessions/{segment(session_id)}/artifacts", params)
    rows = many(visit, answer, "path")
    following = answer.value.get("next") if rows is not None else None
    return {"artifacts": rows, "artifacts_next": following if isinstance(following, str) else None}


async def _runs(visit: Visit, agent: Agent, session_id: str) -> tuple[list[Row], bool]:
    """The latest runs of workflows, and whether there are more; none at an agent of a version without them."""
    path = f"/sessions/{segment(session_id)}/workflows"
    token = visit.token_for(agent)
    window = [("limit", str(RUNS))]
    answer = await visit.upstream.ask(agent, "GET", path, token=token, within_s=visit.patience_s, params=window)
    if not answer.ok and answer.contact.reason_code != "no_such_route":
        visit.note(answer.contact)
    rows = many(visit, answer, "run_id") if answer.ok else None
    return rows or [], rows is not None and answer.value.get("next") is not None


def first_failed(tasks: list[Row]) -> Row | None:
    """The task that failed before all others did: mostly the one that the rest failed for."""
    failed = [task for task in tasks if task["state"] in ("failed", "timeout")]
    return min(failed, key=lambda task: (str(task["ended_at"]), str(task["task_id"])), default=None)


def _seq(row: Row) -> int:
    return row["seq"] if isinstance(row["seq"], int) else 0


def _counts(row: Row) -> list[tuple[str, Any]]:
    return list(row["counts"].items()) if isinstance(row["counts"], dict) else []


def _policy(row: Row) -> dict[str, Any]:
    """What the policy sets, without what is not set, and its budget, which stands beside what is used of it."""
    given = row["policy"] if isinstance(row["policy"], dict) else {}
    return {name: each for name, each in given.items() if name != "budget" and each is not None and each is not False}


ROUTES: tuple[Route, ...] = (("GET", "/a/{agent}/s/{session}", session),)
