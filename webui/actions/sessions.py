"""Edit, archive, cancel and delete sessions."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from agentd.client import UNREADABLE
from webui.actions.filling import Filled
from webui.actions.outcomes import (
    ACT_S,
    Action,
    act,
    ask_first,
    back,
    not_done,
    not_shown,
    posted,
    see_other,
    session_page,
    session_path,
)
from webui.identity import Role
from webui.rendering import Page
from webui.routes import Route
from webui.rows import Row, one
from webui.schema_form import fields_of
from webui.typed import typed_of
from webui.upstream import Answer
from webui.visit import Visit
from webui.words import ACTIVE

#: A session's version changes with each of its tasks: an edit that was overtaken by one is tried so often.
MAX_TRIES = 5
#: What can be edited, as the agents' own schema has it.
_FIELDS = fields_of(
    {
        "properties": {
            "title": {"type": "string", "maxLength": 200, "description": "What lists show beside its id."},
            "labels": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "default": {},
                "description": "Keys and values to find it by.",
            },
            "budget": {
                "type": "object",
                "description": "What all its tasks may use together; without a figure there is no limit.",
                "properties": {
                    "max_cost_usd": {"type": "number", "minimum": 0, "title": "Cost (USD)"},
                    "max_tokens": {"type": "integer", "minimum": 0, "title": "Tokens"},
                    "max_wall_s": {"type": "number", "minimum": 0, "title": "Time that they run (s)"},
                },
            },
        }
    },
    {},
)


async def edit_form(visit: Visit) -> Page:
    """Title, labels and budget as they are, to change."""
    visit.require(Role.OPERATOR)
    answer, _ = await _session(visit)
    now = _editable(answer)
    return _edit(visit, Filled(typed=typed_of(_FIELDS, now)) if now is not None else Filled(), now)


async def edit(visit: Visit) -> Page | web.Response:
    """Set what was changed in the form, unless somebody else changed the very same since the form was shown."""
    form = await posted(visit)
    filled, was = Filled.of(form), _remembered(form.get("was"))
    values = filled.values(_FIELDS)
    if values is None:
        return _edit(visit, filled, was)
    asked = {"title": values.get("title"), "labels": values.get("labels", {})}
    if any(name.partition(".")[0] == "budget" for name in filled.typed.texts):
        asked["budget"] = values.get("budget", {})
    changes = {name: value for name, value in asked.items() if was is None or was.get(name) != value}
    agent, action = visit.agent(), Action(title="Edit the session", truth=session_page(visit))
    for _ in range(MAX_TRIES):
        answer, session = await _session(visit, within_s=ACT_S)
        now = _editable(answer)
        if session is None or now is None:
            return not_done(visit, answer, action, form)
        if not changes:
            break
        if was is not None and any(now[name] not in (was.get(name), changes[name]) for name in changes):
            return _overtaken(visit, filled, now)
        bound = {"If-Match": f'"{session["seq"]}"'}
        answer = await act(visit, agent, "PATCH", session_path(visit), body=_patch(changes), headers=bound)
        if answer.http_status != 412:
            break
    if answer.ok:
        return see_other(visit, session_page(visit))
    if answer.http_status == 422:
        filled.refused(visit, _FIELDS, answer)
        return _edit(visit, filled, was)
    return not_done(visit, answer, action, form)


def _editable(answer: Answer) -> dict[str, Any] | None:
    """What can be edited, as an agent has it; None when it did not say."""
    if not answer.ok or not isinstance(answer.value, dict):
        return None
    policy = answer.value.get("policy")
    budget = policy.get("budget") if isinstance(policy, dict) else None
    limits = budget.items() if isinstance(budget, dict) else ()
    return {
        "title": answer.value.get("title"),
        "labels": answer.value.get("labels") or {},
        "budget": {name: most for name, most in limits if most is not None},
    }


def _patch(changes: dict[str, Any]) -> dict[str, Any]:
    """The changes as PATCH takes them; without a limit there is no budget."""
    rest = {name: value for name, value in changes.items() if name != "budget"}
    return rest if len(rest) == len(changes) else {**rest, "policy": {"budget": changes["budget"] or None}}


def _remembered(text: object) -> dict[str, Any] | None:
    """What a form was filled with when it was shown; None when it does not say."""
    try:
        return msgspec.json.decode(str(text), type=dict[str, Any])
    except UNREADABLE:
        return None


def _overtaken(visit: Visit, filled: Filled, now: dict[str, Any]) -> Page:
    """The form again with what was typed, beside what somebody else has set meanwhile."""
    filled.status = 409
    theirs = typed_of(_FIELDS, now).texts
    filled.notices = [
        "Somebody changed the same since this form was shown, so nothing was saved.",
        *(
            f"{each.label} is now: {theirs.get(each.name) or '(none)'}"
            for field in _FIELDS
            for each in field.inner or (field,)
        ),
        "Save again to put yours in its place.",
    ]
    return _edit(visit, filled, now)


def _edit(visit: Visit, filled: Filled, was: dict[str, Any] | None) -> Page:
    """`was` is what the agent has, as far as the form knows; without it and without a text there is nothing to edit."""
    return filled.page(
        "edit.html",
        f"Edit {visit.part('session')}",
        _FIELDS,
        {"session_id": visit.part("session")},
        was=msgspec.json.encode(was).decode(),
        known=was is not None or bool(filled.errors or filled.notices),
        truth=session_page(visit),
    )


async def archive(visit: Visit) -> Page | web.Response:
    """Put a session out of the way, or bring it back."""
    form = await posted(visit)
    archived = visit.request.path.endswith("/archive")
    agent = visit.agent()
    answer = await act(visit, agent, "PATCH", session_path(visit), body={"archived": archived})
    if not answer.ok:
        title = "Archive the session" if archived else "Bring the session back"
        return not_done(visit, answer, Action(title=title, truth=session_page(visit)), form)
    return back(visit, form, session_page(visit))


async def cancel_first(visit: Visit) -> Page:
    """Ask before all tasks of a session are cancelled."""
    visit.require(Role.OPERATOR)
    _, session = await _session(visit)
    return ask_first(
        title=f"Cancel all tasks of {visit.part('session')}?",
        says=[_stands(session), "What runs is stopped with all its processes; what waits does not start."],
        button="Cancel them",
        at=f"{session_page(visit)}/cancel",
        truth=session_page(visit),
    )


async def cancel(visit: Visit) -> Page | web.Response:
    """Cancel all that has not ended."""
    form = await posted(visit)
    answer = await act(visit, visit.agent(), "POST", f"{session_path(visit)}/cancel")
    if not answer.ok:
        return not_done(visit, answer, Action(title="Cancel all tasks of the session", truth=session_page(visit)), form)
    return see_other(visit, session_page(visit))


async def delete_first(visit: Visit) -> Page:
    """Ask before a session is deleted."""
    visit.require(Role.OPERATOR)
    _, session = await _session(visit)
    active = session is None or bool(_active(session))
    return ask_first(
        title=f"Delete the session {visit.part('session')}?",
        says=[
            _stands(session),
            "Its history, output, artifacts and workspace are removed. What is gone does not come back.",
        ],
        button="Delete it",
        at=f"{session_page(visit)}/delete",
        truth=session_page(visit),
        option=("force", "Also stop its tasks that have not ended") if active else None,
    )


async def delete(visit: Visit) -> Page | web.Response:
    """Delete a session with all its files."""
    form = await posted(visit)
    params = [("force", "true")] if form.get("force") else []
    answer = await act(visit, visit.agent(), "DELETE", session_path(visit), params=params)
    if not answer.ok:
        return not_done(visit, answer, Action(title="Delete the session", truth=session_page(visit)), form)
    return see_other(visit, "/")


async def _session(visit: Visit, within_s: float | None = None) -> tuple[Answer, Row | None]:
    """The session of this request as its agent has it; None when the agent did not answer.

    Raises:
        Refusal: the agent has no such session.
    """
    answer = await visit.ask(visit.agent(), session_path(visit), within_s=within_s)
    if answer.problem is not None:
        raise not_shown(answer)
    return answer, one(visit, answer, "session_id")


def _active(session: Row) -> list[str]:
    counts = session["counts"] if isinstance(session["counts"], dict) else {}
    return [f"{counts[state]} {state}" for state in ACTIVE if counts.get(state)]


def _stands(session: Row | None) -> str:
    if session is None:
        return "How its tasks stand is unknown: the agent did not answer."
    active = _active(session)
    return f"Of its tasks, {' and '.join(active)}." if active else "None of its tasks runs or waits."


_SESSION = "/a/{agent}/s/{session}"

ROUTES: tuple[Route, ...] = (
    ("GET", f"{_SESSION}/edit", edit_form),
    ("POST", f"{_SESSION}/edit", edit),
    ("POST", f"{_SESSION}/archive", archive),
    ("POST", f"{_SESSION}/unarchive", archive),
    ("GET", f"{_SESSION}/cancel", cancel_first),
    ("POST", f"{_SESSION}/cancel", cancel),
    ("GET", f"{_SESSION}/delete", delete_first),
    ("POST", f"{_SESSION}/delete", delete),
)
