"""The agents' lists as one: `agent` is added to each row, and nothing else is changed.

Every answer has `agents`, how each that was asked did, and `partial`, whether some are unknown; with `?strict=1` that
is a 503.
"""

from __future__ import annotations

from aiohttp import web

from webui.merging import SESSION_SORTS, TASK_SORTS, Order, merged
from webui.refusals import Refusal
from webui.rendering import json_answer
from webui.routes import Route
from webui.rows import Row, one
from webui.visit import Visit, patience_s

#: How long agents may take; `Prefer: wait=` asks for more.
PATIENCE_S = 2.0
DEFAULT_LIMIT = 100

#: Parameters that are the viewer's own; all others go to the agents as they are.
_OWN = frozenset({"agent", "strict", "wait", "format"})
_OF_THE_PAGE = frozenset({"limit", "cursor", "sort"})


async def sessions(visit: Visit) -> web.Response:
    """The agents' GET /sessions, merged."""
    return await _list(visit, "/sessions", Order(visit.choice("sort", SESSION_SORTS), "session_id"))


async def tasks(visit: Visit) -> web.Response:
    """The agents' GET /tasks, merged."""
    return await _list(visit, "/tasks", Order(visit.choice("sort", TASK_SORTS), "task_id"))


async def agents(visit: Visit) -> web.Response:
    """The agents' GET /status, one row each."""
    return await _each(visit, "/status")


async def workers(visit: Visit) -> web.Response:
    """The agents' GET /workers, one row with its page each."""
    return await _each(visit, "/workers")


async def queue(visit: Visit) -> web.Response:
    """The agents' GET /queue, one row with its page each."""
    return await _each(visit, "/queue")


async def _list(visit: Visit, path: str, order: Order) -> web.Response:
    visit.patience_s = patience_s(visit.request, PATIENCE_S)
    rows, following = await merged(
        visit,
        visit.asked_agents(),
        path,
        _passed_on(visit, _OWN | _OF_THE_PAGE),
        order,
        limit=visit.limit(DEFAULT_LIMIT),
        cursor=visit.query.get("cursor"),
    )
    return _answer(visit, rows, following)


async def _each(visit: Visit, path: str) -> web.Response:
    visit.patience_s = patience_s(visit.request, PATIENCE_S)
    rows = []
    for _, answer in await visit.ask_each(visit.asked_agents(), path, _passed_on(visit, _OWN)):
        row = one(visit, answer)
        if row is None:
            visit.note_not_taken(answer)
        else:
            rows.append(row)
    return _answer(visit, rows, None)


def _passed_on(visit: Visit, but: frozenset[str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in visit.query.items() if name not in but]


def _answer(visit: Visit, rows: list[Row], following: str | None) -> web.Response:
    contacts = [visit.contacts[agent.name] for agent in visit.agents if agent.name in visit.contacts]
    if contacts and all(contact.reason_code == "not_taken" for contact in contacts):
        raise Refusal(400, "malformed", f"agent {contacts[0].agent}: {contacts[0].reason}")
    partial = bool(visit.unknown)
    body = {"data": rows, "next": following, "agents": contacts, "partial": partial}
    return json_answer(body, 503 if partial and visit.query.get("strict") == "1" else 200)


ROUTES: tuple[Route, ...] = (
    ("GET", "/api/agents", agents),
    ("GET", "/api/sessions", sessions),
    ("GET", "/api/tasks", tasks),
    ("GET", "/api/workers", workers),
    ("GET", "/api/queue", queue),
)
