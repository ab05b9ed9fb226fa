"""One task: how it stands and why, its attempts, what it runs, what it left, and its log."""

from __future__ import annotations

import asyncio
import re
import shlex
from datetime import datetime
from typing import Any

from aiohttp import web

from webui import words
from webui.blotting import blotted
from webui.causes import explained, need_at_fault, signal_name
from webui.clocks import ran_s, time_at
from webui.logs.log import channel
from webui.logs.window import Window, first_window
from webui.phases import Phase, phases
from webui.refusals import Refusal
from webui.rendering import Page
from webui.routes import Route
from webui.rows import Row, many, one, subject
from webui.timeline import outcome, timeline
from webui.upstream import Agent, segment
from webui.visit import Visit, task_url

#: Needs whose state is asked for; of more, the rest are links alone.
MAX_NEEDS = 20
#: Characters of a long value that are shown at once; `?whole=1` shows all.
SHOWN = 8_000
TITLE = 100
#: Of the session, up to the last of the task: its phases are read of them.
EVENTS = 500
#: Tasks that were submitted while it ran, among which its own are looked for.
MAX_CHILDREN = 100

#: Fields that the page has a place for; the others are listed as they are.
_KNOWN = {
    *("agent", "task_id", "session_id", "kind", "spec", "name", "state", "cause", "priority", "queue", "needs"),
    *("labels", "trigger", "attempt", "attempts", "timeout_s", "retry", "on_interrupt", "max_output_bytes"),
    *("not_before", "next_attempt_at", "progress", "phase", "message", "items_processed", "items_failed", "result"),
    *("created_at", "queued_at", "started_at", "ended_at", "duration_s", "wait_s", "cancel_requested_at"),
    *("stop_cause", "awaiting", "answered", "retry_of", "parent_id", "depth", "workflow", "transitions", "seq"),
}
_KNOWN_OF_ATTEMPT = {
    *("n", "worker_id", "boot_id", "pid", "pid_started_at", "started_at", "ended_at", "duration_s", "exit_code"),
    *("signal", "cause", "usage", "output_bytes"),
}


async def task(visit: Visit) -> Page | web.Response:
    """`?attempt=` (default: the latest) and `?whole=1`; one of another session is redirected to where it is.

    Raises:
        Refusal: there is no such task or attempt.
    """
    agent = visit.agent()
    session_id, task_id = visit.part("session"), visit.part("task")
    answer = await visit.ask(agent, f"/tasks/{segment(task_id)}")
    hint = f"Its session's page, {visit.url(f'/a/{segment(agent.name)}/s/{segment(session_id)}')}, lists those kept."
    row = subject(visit, answer, "task_id", "session_id", "state", hint=hint)
    live = {"agent": agent.name, "session": session_id, "log": channel(visit, agent.name, task_id)}
    if row is None:
        return Page(template="task.html", title=task_id, model={"task": None}, live=live)
    if row["session_id"] != session_id:
        there = visit.url(task_url(agent.name, row["session_id"], row["task_id"]))
        query = f"?{visit.request.query_string}" if visit.request.query_string else ""
        return web.Response(status=303, headers={"Location": there + query})
    attempts = _attempts(row)
    chosen = _chosen(visit, attempts)
    now = time_at(answer.contact)
    needs, log, told, children = await asyncio.gather(
        _needs(visit, agent, row),
        _log(visit, agent, row, chosen if visit.query.get("attempt") else None),
        _phases(visit, agent, row, now),
        _children(visit, agent, row),
    )
    extra = {
        "why": explained(row),
        "at_fault": need_at_fault(row),
        "attempts": [(each, outcome(row, each, last=each is attempts[-1])) for each in attempts],
        "chosen": chosen,
        "spec": _spec(row["spec"]),
        "env": _env(row["spec"]),
        "needs": needs,
        "phases": told,
        "children": children,
        "log": log,
        "whole": visit.query.get("whole") == "1",
        "SHOWN": SHOWN,
        "timeline": timeline([row], now),
        "more_fields": _unknown(row, _KNOWN),
        "more_of_attempt": lambda attempt: _unknown(attempt, _KNOWN_OF_ATTEMPT),
        "signal_name": signal_name,
        "at": lambda time: words.when(time, now),
        "between": _between,
        "ran": lambda task: ran_s(task, now),
    }
    return Page(template="task.html", title=words.title_of(row, TITLE), model={"task": row}, extra=extra, live=live)


def _attempts(row: Row) -> list[Row]:
    given = row["attempts"] if isinstance(row["attempts"], list) else []
    return [each for each in given if isinstance(each, Row)]


def _chosen(visit: Visit, attempts: list[Row]) -> int | None:
    """The number of the attempt that is looked at; None before the first."""
    given = visit.query.get("attempt")
    if not given:
        return int(attempts[-1]["n"]) if attempts and isinstance(attempts[-1]["n"], int) else None
    if re.fullmatch(r"[0-9]{1,6}", given) is None or int(given) not in [each["n"] for each in attempts]:
        there = f"it has {len(attempts)}" if attempts else "it has none yet"
        raise Refusal(404, "attempt_not_found", f"attempt: the task has no attempt {given}; {there}")
    return int(given)


async def _log(visit: Visit, agent: Agent, row: Row, attempt: int | None) -> Window | str | None:
    """The end of the log; a sentence where there is none: a task outlives its log."""
    try:
        return await first_window(visit, agent, row, attempt)
    except Refusal as refusal:
        return str(refusal)


async def _needs(visit: Visit, agent: Agent, row: Row) -> list[tuple[str, Row | None]]:
    """What the task needs, each with how it stands; None where that is not known, or no longer."""
    needs = [need for need in row["needs"] or [] if isinstance(need, str)] if isinstance(row["needs"], list) else []

    async def ask(need: str) -> Row | None:
        return one(visit, await visit.ask(agent, f"/tasks/{segment(need)}"), "task_id", "state")

    found_rows = await asyncio.gather(*map(ask, needs[:MAX_NEEDS]))
    return list(zip(needs, [*found_rows, *[None] * max(0, len(needs) - MAX_NEEDS)], strict=True))


async def _phases(visit: Visit, agent: Agent, row: Row, now: datetime) -> list[Phase]:
    """The phases that the latest events tell of, of a task that has any."""
    if not row["phase"] or not isinstance(row["seq"], int):
        return []
    window = [("after", str(max(0, row["seq"] - EVENTS))), ("limit", str(EVENTS))]
    answer = await visit.ask(agent, f"/sessions/{segment(str(row['session_id']))}/events", window)
    return phases(many(visit, answer, "type") or [], str(row["task_id"]), now)


async def _children(visit: Visit, agent: Agent, row: Row) -> list[Row]:
    """The tasks that it submitted, the first ones."""
    if not isinstance(row["started_at"], str):
        return []
    window = [("parent", str(row["task_id"])), ("sort", "created_at"), ("limit", str(MAX_CHILDREN))]
    answer = await visit.ask(agent, f"/sessions/{segment(str(row['session_id']))}/tasks", window)
    rows = many(visit, answer, "task_id", "state") or []
    return [each for each in rows if each["parent_id"] == row["task_id"]]


def _spec(spec: object) -> list[tuple[str, Any]]:
    """The fields of a spec, but its environment; arguments as one would type them."""
    if not isinstance(spec, dict):
        return [] if spec is None else [("spec", spec)]
    fields = [(name, value) for name, value in blotted(spec).items() if name != "env" or not isinstance(value, dict)]
    return [
        (name, shlex.join(map(str, value)) if name == "argv" and isinstance(value, list) else value)
        for name, value in fields
        if value not in (None, {}, [])
    ]


def _env(spec: object) -> dict[str, Any]:
    env = spec.get("env") if isinstance(spec, dict) else None
    return dict(blotted(env)) if isinstance(env, dict) else {}


def _unknown(row: Row, known: set[str]) -> dict[str, Any]:
    return {name: blotted(value) for name, value in row.items() if name not in known}


def _between(begin: object, end: object) -> float | None:
    """Seconds from one time to another, None when one is no time."""
    first, second = words.moment(begin), words.moment(end)
    return (second - first).total_seconds() if first is not None and second is not None else None


ROUTES: tuple[Route, ...] = (("GET", "/a/{agent}/s/{session}/t/{task}", task),)
