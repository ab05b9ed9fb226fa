"""What people tell a running task: the answer to its question, a line of input, the end of the input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from webui.actions.outcomes import UNSAFE, Action, act, back, not_done, posted
from webui.refusals import Refusal
from webui.rendering import Page
from webui.routes import Route
from webui.upstream import segment
from webui.visit import Visit, task_url


async def answer(visit: Visit) -> Page | web.Response:
    """Answer the question that the form was shown for, and no other.

    Raises:
        Refusal: the form has no answer.
    """
    form = await posted(visit)
    body = {"answer": _text(form, "answer"), "ask_id": str(form.get("ask_id") or "") or None}
    told = await act(visit, visit.agent(), "POST", f"{_task(visit)}/answer", body=body)
    if not told.ok:
        action = Action(title="Answer the task", truth=_truth(visit), again="Trying again is safe: one answer counts.")
        return not_done(visit, told, action, form)
    return back(visit, form, _truth(visit))


async def give(visit: Visit) -> Page | web.Response:
    """Write a line to the input of an interactive task, or with `eof` end it behind what was typed, if anything.

    Raises:
        Refusal: the form has no line.
    """
    form = await posted(visit)
    ends = bool(form.get("eof"))
    line = _text(form, "line")
    body = {"data": line if ends and not line else f"{line}\n", "eof": ends}
    told = await act(visit, visit.agent(), "POST", f"{_task(visit)}/input", body=body)
    if not told.ok:
        return not_done(visit, told, Action(title="Send input", truth=_truth(visit), again=UNSAFE), form)
    return back(visit, form, _truth(visit))


def _text(form: Mapping[str, Any], name: str) -> str:
    """What was typed. Browsers send CR LF for each line break (HTML, form submission)."""
    given = form.get(name)
    if not isinstance(given, str):
        raise Refusal(422, "invalid", f"{name}: is required", hint="Go back and type it.")
    return given.replace("\r\n", "\n")


def _task(visit: Visit) -> str:
    return f"/tasks/{segment(visit.part('task'))}"


def _truth(visit: Visit) -> str:
    return task_url(visit.part("agent"), visit.part("session"), visit.part("task"))


_TASK = "/a/{agent}/s/{session}/t/{task}"

ROUTES: tuple[Route, ...] = (
    ("POST", f"{_TASK}/answer", answer),
    ("POST", f"{_TASK}/input", give),
)
