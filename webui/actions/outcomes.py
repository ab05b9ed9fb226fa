"""How an action went: done, and the way back to the truth; refused, and why; or unknown, and what is safe then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from webui.contact import Status
from webui.forms import CSRF_FIELD, fields_of
from webui.identity import Role
from webui.refusals import Refusal
from webui.rendering import Page
from webui.rows import refusal_of
from webui.upstream import Agent, Answer, Params, segment
from webui.visit import Visit, session_url

#: How long an agent may take for an action, in seconds: an answer is worth waiting for.
ACT_S = 10.0

#: Troubles in which nothing was sent, or was refused unread.
_NOT_BEGUN = frozenset(
    {"refused", "dns", "tls", "connect_timeout", "not_running", "no_token", "token_rejected", "no_such_route"}
)
#: What a person can do about a refusal, by its code.
_REMEDIES = {
    "forbidden": "Log in with a token that may do this.",
    "task_not_found": "It was deleted with its session, or retention removed it.",
    "session_not_found": "It was deleted, or retention removed it.",
    "artifact_not_found": "It has been deleted meanwhile.",
    "worker_not_found": "It has been replaced meanwhile; the list of workers has its successor.",
    "invalid_transition": "It changed meanwhile; its page shows how it stands.",
    "session_active": "Cancel its tasks first, or have them stopped by the deletion.",
    "session_exists": "Choose another name, or start a task in the session that is there.",
    "session_read_only": "Its journal is damaged or its disk failed; `agentd check` says more.",
    "precondition_failed": "Somebody changed it meanwhile; look at what it is now, and save again.",
    "too_large": "The agent's limits.artifact_bytes and limits.body_bytes say how much it takes.",
    "draining": "The daemon is stopping; try again once it runs.",
    "queue_full": "Cancel or wait for other tasks, or raise the agent's limits.",
    "storage_full": "Make room on the agent's disk, by a clean-up for instance; then try again.",
    "storage_failed": "The agent's disk refused the write; its log has the reason.",
    "idempotency_conflict": "An earlier try of this form was done; send it again only if you want another.",
}

SAFE_BY_KEY = "Trying again is safe: the request has a key, and is done once however often it is sent."
SAFE = "Trying again is safe: it asks for the same."
NOT_SENT = "Nothing was sent; try again."
UNSAFE = "Look first: trying again does it a second time if it was done."


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asked for, in their words."""

    title: str
    truth: str  #: where it can be seen whether it was done, without the prefix
    again: str = SAFE


async def posted(visit: Visit, role: Role = Role.OPERATOR) -> Mapping[str, Any]:
    """The fields of the form that was sent.

    Raises:
        Refusal: this login may not do it, or it is no form.
    """
    visit.require(role)
    return await fields_of(visit.request)


async def act(
    visit: Visit,
    agent: Agent,
    method: str,
    path: str,
    *,
    body: object = None,
    key: object = None,
    params: Params = (),
    headers: Mapping[str, str] | None = None,
    within_s: float = ACT_S,
) -> Answer:
    """Ask an agent to do something; `body` is sent as JSON, `key` as Idempotency-Key where it is one."""
    sent = dict(headers or {})
    if body is not None:
        sent["Content-Type"] = "application/json"
    if isinstance(key, str) and 0 < len(key) <= 255 and key.isascii() and key.isprintable():
        sent["Idempotency-Key"] = key
    text = msgspec.json.encode(body) if body is not None else None
    return await visit.ask(agent, path, params, method=method, body=text, headers=sent, within_s=within_s)


def see_other(visit: Visit, path: str) -> web.Response:
    """Go and look how it stands: `path` is without the prefix."""
    return web.Response(status=303, headers={"Location": visit.url(path)})


def back(visit: Visit, form: Mapping[str, Any], truth: str) -> web.Response:
    """Go back to where the form was, if it says so and that is a page of the viewer; else to the truth."""
    given = form.get("back")
    if isinstance(given, str) and _is_own(given, visit.settings.prefix):
        return web.Response(status=303, headers={"Location": given})
    return see_other(visit, truth)


def is_known_not_done(answer: Answer) -> bool:
    """Whether an answer that is not ok says for sure that nothing was done."""
    return answer.http_status >= 400 or answer.contact.reason_code in _NOT_BEGUN


def reason_of(visit: Visit, answer: Answer) -> tuple[str, str]:
    """Why something was not done, by a code and a sentence."""
    if (problem := answer.problem) is not None:
        return str(problem.get("code") or "refused"), str(problem.get("detail") or f"HTTP {answer.http_status}")
    contact = visit.contacts.get(answer.contact.agent, answer.contact)
    return contact.reason_code or "bad_shape", f"{contact.agent} is {contact.status}: {contact.reason}"


def remedy_of(code: str, answer: Answer) -> str | None:
    """What can be done about it."""
    if answer.contact.status is Status.UNAUTHORIZED:
        return "Log in to the agent again."
    return _REMEDIES.get(code)


def errors_of(answer: Answer) -> list[tuple[str, str]]:
    """The fields that an agent found wrong, each with what is wrong."""
    found = (answer.problem or {}).get("errors")
    rows = found if isinstance(found, list) else []
    return [(str(row.get("field") or ""), str(row.get("message") or "")) for row in rows if isinstance(row, dict)]


def status_of(answer: Answer) -> int:
    """The HTTP status of a page about an answer that is not ok: the agent's own, or that of a gateway."""
    if answer.http_status >= 400:
        return answer.http_status
    return 503 if is_known_not_done(answer) else 502


def not_done(visit: Visit, answer: Answer, action: Action, form: Mapping[str, Any]) -> Page:
    """The page of an action that was refused, or of which nobody knows; it can be tried again from there."""
    code, reason = reason_of(visit, answer)
    known = is_known_not_done(answer)
    fields = [(name, value) for name, value in form.items() if isinstance(value, str) and name != CSRF_FIELD]
    return Page(
        template="outcome.html",
        title=f"{action.title}: {'not done' if known else 'unknown'}",
        model={
            "done": False if known else None,
            "action": action.title,
            "code": code,
            "reason": reason,
            "errors": [{"field": field, "message": message} for field, message in errors_of(answer)],
            "remedy": remedy_of(code, answer) if known else action.again,
        },
        extra={
            "fields": fields,
            "truth": action.truth,
            "login": answer.contact.status is Status.UNAUTHORIZED,
            "retry": visit.request.content_type != "multipart/form-data",  # files must be chosen again
        },
        status=status_of(answer),
        live=None,
    )


def ask_first(
    *, title: str, says: list[str], button: str, at: str, truth: str, option: tuple[str, str] | None = None
) -> Page:
    """The page that asks before something is done: a form that posts to `at`, with one box to tick if there is one."""
    return Page(
        template="confirm.html",
        title=title,
        model={"question": title, "says": says},
        extra={"button": button, "at": at, "truth": truth, "option": option},
        live=None,
    )


def not_shown(answer: Answer) -> Refusal:
    """What an agent refused to show, with what can be done about it."""
    refusal = refusal_of(answer)
    refusal.hint = _REMEDIES.get(refusal.code)
    return refusal


def session_path(visit: Visit) -> str:
    """The session that this request's path names, as agents name it."""
    return f"/sessions/{segment(visit.part('session'))}"


def session_page(visit: Visit) -> str:
    """Where that session shows, without the prefix."""
    return session_url(visit.part("agent"), visit.part("session"))


def _is_own(path: str, prefix: str) -> bool:
    """Whether a path leads to a page of the viewer's, and nowhere else."""
    return (
        path.startswith(f"{prefix}/")
        and path[1:2] not in ("/", "\\")
        and path.isprintable()
        and not urlsplit(path).netloc
    )
