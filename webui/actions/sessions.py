"""Edit, archive, cancel and delete sessions."""

from __future__ import annotations

from aiohttp import web

from webui.actions.filling import Filled
from webui.actions.outcomes import (
    Action,
    act,
    ask_first,
    back,
    named,
    not_done,
    posted,
    refusal_of,
    see_other,
    session_path,
)
from webui.identity import Role
from webui.rendering import Page
from webui.routes import Route
from webui.rows import Row, one
from webui.schema_form import fields_of
from webui.typed import typed_of
from webui.upstream import Answer
from webui.visit import Visit, session_url
from webui.words import ACTIVE

#: What can be edited, as the agents' own schema has it.
_FIELDS = fields_of(
    {
        "properties": {
            "title": {"type": "string", "maxLength": 200, "description": "What lists show beside its id."},
            "labels": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "Keys and values to find it by.",
            },
        }
    },
    {},
)


async def edit_form(visit: Visit) -> Page:
    """Title and labels as they are, to change."""
    visit.require(Role.OPERATOR)
    answer, session = await _session(visit)
    if session is None:
        return _edit(visit, Filled(), None)
    return _edit(visit, Filled(typed=typed_of(_FIELDS, answer.value)), session["seq"])


async def edit(visit: Visit) -> Page | web.Response:
    """Set title and labels, unless somebody else did since the form was shown."""
    form = await posted(visit)
    filled = Filled.of(form)
    version = str(form.get("version") or "")
    values = filled.values(_FIELDS)
    if values is None:
        return _edit(visit, filled, version)
    body = {"title": values.get("title"), "labels": values.get("labels", {})}
    agent = visit.agent(named(visit, "agent"))
    answer = await act(visit, agent, "PATCH", session_path(visit), body=body, headers={"If-Match": f'"{version}"'})
    if answer.ok:
        return see_other(visit, _truth(visit))
    if answer.http_status == 412:
        return await _overtaken(visit, filled, version)
    if answer.http_status == 422:
        filled.refused(visit, _FIELDS, answer)
        return _edit(visit, filled, version)
    return not_done(visit, answer, Action(title="Edit the session", truth=_truth(visit)), form)


async def _overtaken(visit: Visit, filled: Filled, version: object) -> Page:
    """The form again with what was typed, beside what somebody else has set meanwhile."""
    answer, session = await _session(visit)
    filled.status = 412
    filled.notices = ["Somebody changed the session since this form was shown, so nothing was saved."]
    if session is not None:
        now = typed_of(_FIELDS, answer.value).texts
        filled.notices += [f"{field.label} is now: {now.get(field.name) or '(none)'}" for field in _FIELDS]
        filled.notices.append("Save again to put yours in its place.")
        version = session["seq"]
    return _edit(visit, filled, version)


def _edit(visit: Visit, filled: Filled, version: object) -> Page:
    """`version` is None where the agent did not answer: there is nothing to edit then."""
    return Page(
        template="edit.html",
        title=f"Edit {named(visit, 'session')}",
        model={
            "session_id": named(visit, "session"),
            "fields": _FIELDS,
            "texts": filled.typed.texts,
            "errors": filled.errors,
            "notices": filled.notices,
        },
        extra={"filled": filled, "version": version, "truth": _truth(visit)},
        status=filled.status,
        live=None,
    )


async def archive(visit: Visit) -> Page | web.Response:
    """Put a session out of the way, or bring it back."""
    form = await posted(visit)
    archived = visit.request.path.endswith("/archive")
    agent = visit.agent(named(visit, "agent"))
    answer = await act(visit, agent, "PATCH", session_path(visit), body={"archived": archived})
    if not answer.ok:
        title = "Archive the session" if archived else "Bring the session back"
        return not_done(visit, answer, Action(title=title, truth=_truth(visit)), form)
    return back(visit, form, _truth(visit))


async def cancel_first(visit: Visit) -> Page:
    """Ask before all tasks of a session are cancelled."""
    visit.require(Role.OPERATOR)
    _, session = await _session(visit)
    return ask_first(
        title=f"Cancel all tasks of {named(visit, 'session')}?",
        says=[_stands(session), "What runs is stopped with all its processes; what waits does not start."],
        button="Cancel them",
        at=f"{_truth(visit)}/cancel",
        truth=_truth(visit),
    )


async def cancel(visit: Visit) -> Page | web.Response:
    """Cancel all that has not ended."""
    form = await posted(visit)
    answer = await act(visit, visit.agent(named(visit, "agent")), "POST", f"{session_path(visit)}/cancel")
    if not answer.ok:
        return not_done(visit, answer, Action(title="Cancel all tasks of the session", truth=_truth(visit)), form)
    return see_other(visit, _truth(visit))


async def delete_first(visit: Visit) -> Page:
    """Ask before a session is deleted."""
    visit.require(Role.OPERATOR)
    _, session = await _session(visit)
    active = session is None or bool(_active(session))
    return ask_first(
        title=f"Delete the session {named(visit, 'session')}?",
        says=[
            _stands(session),
            "Its history, output, artifacts and workspace are removed. What is gone does not come back.",
        ],
        button="Delete it",
        at=f"{_truth(visit)}/delete",
        truth=_truth(visit),
        option=("force", "Also stop its tasks that have not ended") if active else None,
    )


async def delete(visit: Visit) -> Page | web.Response:
    """Delete a session with all its files."""
    form = await posted(visit)
    params = [("force", "true")] if form.get("force") else []
    answer = await act(visit, visit.agent(named(visit, "agent")), "DELETE", session_path(visit), params=params)
    if not answer.ok:
        return not_done(visit, answer, Action(title="Delete the session", truth=_truth(visit)), form)
    return see_other(visit, "/")


async def _session(visit: Visit) -> tuple[Answer, Row | None]:
    """The session of this request as its agent has it; None when the agent did not answer.

    Raises:
        Refusal: the agent has no such session.
    """
    answer = await visit.ask(visit.agent(named(visit, "agent")), session_path(visit))
    if answer.problem is not None:
        raise refusal_of(answer)
    return answer, one(visit, answer, "session_id")


def _active(session: Row) -> list[str]:
    counts = session["counts"] if isinstance(session["counts"], dict) else {}
    return [f"{counts[state]} {state}" for state in ACTIVE if counts.get(state)]


def _stands(session: Row | None) -> str:
    if session is None:
        return "How its tasks stand is unknown: the agent did not answer."
    active = _active(session)
    return f"Of its tasks, {' and '.join(active)}." if active else "None of its tasks runs or waits."


def _truth(visit: Visit) -> str:
    return session_url(named(visit, "agent"), named(visit, "session"))


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
