"""The form that starts a task: its fields are what the agent describes, so that new kinds appear by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from webui.actions.filling import Filled, agent_for, agent_of
from webui.actions.outcomes import ACT_S, NOT_SENT, Action, act, not_done, not_shown, posted, see_other
from webui.commands import as_curl, submit_command
from webui.description import Description, described
from webui.identity import Role
from webui.rendering import Page
from webui.routes import Route
from webui.rows import one
from webui.typed import typed_of
from webui.upstream import Agent, Answer, segment
from webui.visit import Visit, session_url, task_url

#: Shown at once; the rest of a task's own fields are rare.
FIRST = ("spec", "session_id", "name")
#: Of a task that is run again, what was true of that one alone.
_NOT_AGAIN = ("not_before",)


async def show(visit: Visit) -> Page:
    """`?agent=&session=&kind=` choose; `?from=TASK` fills the form with what that task was made of."""
    visit.require(Role.OPERATOR)
    agent = agent_for(visit, visit.query.get("agent"))
    kind, filled = visit.query.get("kind", ""), Filled()
    description = await described(visit, agent) if agent is not None else None
    if agent is None or description is None:
        return _page(agent, kind, filled, None)
    values: Mapping[str, Any] = {"session_id": visit.query.get("session") or None}
    if origin := visit.query.get("from"):
        answer = await visit.ask(agent, f"/tasks/{segment(origin)}")
        if answer.problem is not None:
            raise not_shown(answer)
        if one(visit, answer, "task_id", "kind") is None:
            return _page(agent, kind, filled, None)
        values = {name: value for name, value in answer.value.items() if name not in _NOT_AGAIN}
        kind = kind or answer.value["kind"]
    kind = kind or next(iter(description.kinds), "shell")
    filled.typed = typed_of(description.task_fields(kind), values)
    return _page(agent, kind, filled, description)


async def start(visit: Visit) -> Page | web.Response:
    """Submit the task, and go to it; with `show` only say how it would be done in a shell."""
    form = await posted(visit)
    agent = agent_of(visit, form)
    kind, filled = str(form.get("kind") or ""), Filled.of(form)
    description = await described(visit, agent, within_s=ACT_S)
    if description is None:
        action = Action(title="Start the task", truth=_truth(agent, form), again=NOT_SENT)
        return not_done(visit, Answer(contact=visit.contacts[agent.name]), action, form)
    fields = description.task_fields(kind)
    values = filled.values(fields)
    if values is None:
        return _page(agent, kind, filled, description)
    body = {"kind": kind, **values}
    if form.get("show"):
        return _page(agent, kind, filled, description, _commands(agent, body))
    if description.says_trigger:
        body["trigger"] = {"type": "manual"}
    answer = await act(visit, agent, "POST", "/tasks", body=body, key=filled.key)
    made = one(visit, answer, "task_id", "session_id")
    if made is not None:
        return see_other(visit, task_url(agent.name, made["session_id"], made["task_id"]))
    filled.refused(visit, fields, answer)
    return _page(agent, kind, filled, description)


def _page(
    agent: Agent | None,
    kind: str,
    filled: Filled,
    description: Description | None,
    commands: list[tuple[str, list[str]]] | None = None,
) -> Page:
    kinds = description.kinds if description is not None else {}
    fields = description.task_fields(kind) if description is not None else ()
    model = {
        "agent": agent.name if agent is not None else None,
        "kind": kind,
        "kinds": kinds if kind in kinds or not kind else {**kinds, kind: kind},
    }
    return filled.page("new.html", "New task", fields, model, first=FIRST, shell=commands or [])


def _truth(agent: Agent, form: Mapping[str, Any]) -> str:
    """Where a task shows that was started after all."""
    session = form.get("field:session_id")
    return (
        session_url(agent.name, session) if isinstance(session, str) and session else f"/?agent={segment(agent.name)}"
    )


def _commands(agent: Agent, body: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    lines = (as_curl(agent, "POST", ["tasks"], body=body), submit_command(agent, body))
    return [("Start this task", [line for line in lines if line is not None])]


ROUTES: tuple[Route, ...] = (("GET", "/new", show), ("POST", "/new", start))
