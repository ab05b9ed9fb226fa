"""Runs of workflows: those of a session, and one with its steps as a graph and as a table."""

from __future__ import annotations

from typing import Any

from webui import words
from webui.clocks import time_at
from webui.graph import NODE_HEIGHT, NODE_WIDTH, graph
from webui.rendering import Page
from webui.routes import Route
from webui.rows import Row, many, refusal_of, subject
from webui.upstream import Agent, segment
from webui.visit import Visit

PAGE_ROWS = 50
#: Characters of an output, a reason or an input that are shown; the page as JSON has all.
SHOWN = 1000


async def runs(visit: Visit) -> Page:
    """`?limit=&cursor=`: the runs of a session, the newest first.

    Raises:
        Refusal: there is no such session, or the cursor is wrong.
    """
    agent, session_id = visit.agent(), visit.part("session")
    window = [("limit", str(visit.limit(PAGE_ROWS))), *visit.passed_on("cursor")]
    answer = await visit.ask(agent, f"/sessions/{segment(session_id)}/workflows", window)
    if answer.problem is not None:
        raise refusal_of(answer)
    rows = many(visit, answer, "run_id")
    following = answer.value.get("next") if rows is not None else None
    now = time_at(answer.contact)
    return Page(
        template="runs.html",
        title=f"Workflows of {session_id}",
        model={"data": rows, "next": following if isinstance(following, str) else None},
        extra={"agent": agent.name, "session_id": session_id, "at": lambda time: words.when(time, now)},
        live={"agent": agent.name, "session": session_id},
    )


async def run(visit: Visit) -> Page:
    """One run: how it stands, where it stopped, its steps.

    Raises:
        Refusal: there is no such run.
    """
    agent, session_id, run_id = visit.agent(), visit.part("session"), visit.part("run")
    answer = await visit.ask(agent, f"/sessions/{segment(session_id)}/workflows/{segment(run_id)}")
    row = subject(visit, answer, "run_id", "state", hint="The session's workflows are listed on its page.")
    extra: dict[str, Any] = {"agent": agent.name, "session_id": session_id, "run_id": run_id}
    title = run_id
    if row is not None:
        now = time_at(answer.contact)
        asking = await _asking(visit, agent, session_id) if row["state"] == "running" else {}
        steps = [each for each in row["steps"] if isinstance(each, Row)] if isinstance(row["steps"], list) else []
        extra |= {
            "steps": steps,
            "asking": [asking[each["task_id"]] for each in steps if str(each["task_id"]) in asking],
            "graph": graph(steps, asking),
            "NODE": (NODE_WIDTH, NODE_HEIGHT),
            "SHOWN": SHOWN,
            "where": [str(each) for each in row["where"]] if isinstance(row["where"], list) else [],
            "outputs": lambda step: step["outputs"].items() if isinstance(step["outputs"], Row) else (),
            "at": lambda time: words.when(time, now),
        }
        title = f"{row['name'] or 'workflow'} {row['state']}"
    return Page(
        template="run.html",
        title=title,
        model={"run": row},
        extra=extra,
        live={"agent": agent.name, "session": session_id},
    )


async def _asking(visit: Visit, agent: Agent, session_id: str) -> dict[str, Row]:
    """The tasks of the session that await an answer, by their ids."""
    window = [("awaiting", "true"), ("limit", str(PAGE_ROWS))]
    answer = await visit.ask(agent, f"/sessions/{segment(session_id)}/tasks", window)
    return {str(task["task_id"]): task for task in many(visit, answer, "task_id") or []}


_SESSION = "/a/{agent}/s/{session}"

ROUTES: tuple[Route, ...] = (
    ("GET", f"{_SESSION}/w", runs),
    ("GET", f"{_SESSION}/w/{{run}}", run),
)
