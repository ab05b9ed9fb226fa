"""Workflows: check a file, run it, cancel a run, go on with one that has ended."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from webui.actions.filling import new_key
from webui.actions.outcomes import (
    SAFE_BY_KEY,
    Action,
    act,
    back,
    is_known_not_done,
    not_done,
    posted,
    reason_of,
    remedy_of,
    see_other,
    session_path,
    status_of,
)
from webui.identity import Role
from webui.rendering import Page
from webui.routes import Route
from webui.rows import Row, one, rowed
from webui.typed import pairs_of
from webui.upstream import Answer, segment
from webui.visit import Visit, run_url

#: Lines of the file that are shown around one that is wrong, and how many of those at most.
AROUND = 2
MAX_SHOWN = 50


async def show(visit: Visit) -> Page:
    """The empty form; `?from=RUN` fills in the file and the inputs of a run."""
    visit.require(Role.OPERATOR)
    source, inputs = "", ""
    if origin := visit.query.get("from"):
        answer = await visit.ask(visit.agent(), f"{session_path(visit)}/workflows/{segment(origin)}")
        if (run := one(visit, answer, "run_id")) is not None and isinstance(run["source"], str):
            source = run["source"]
            given = run["inputs"] if isinstance(run["inputs"], Row) else {}
            inputs = "\n".join(f"{name}={value}" for name, value in given.items() if value is not None)
    return _page(visit, source, inputs, new_key())


async def start(visit: Visit) -> Page | web.Response:
    """Run the file, and go to its run; with `check` only say what it describes. Nothing starts if it is wrong."""
    form = await posted(visit)
    agent = visit.agent()
    source = str(form.get("source") or "").replace("\r\n", "\n")
    inputs = str(form.get("inputs") or "").replace("\r\n", "\n")
    key = str(form.get("key") or "") or new_key()
    given, wrong = pairs_of(inputs)
    if form.get("check"):
        answer = await act(visit, agent, "POST", "/workflows/validate", body={"source": source})
        if (outline := one(visit, answer, "name")) is not None:
            return _page(visit, source, inputs, key, outline=outline, notices=[f"Inputs: {wrong}"] if wrong else [])
        return _refused(visit, source, inputs, key, answer, may_have_begun=False)
    if wrong:
        return _page(visit, source, inputs, key, notices=[f"Inputs: {wrong}"], status=422)
    body = {"source": source, "inputs": given}
    answer = await act(visit, agent, "POST", f"{session_path(visit)}/workflow", body=body, key=key)
    if (run := one(visit, answer, "run_id")) is not None:
        return see_other(visit, run_url(agent.name, visit.part("session"), run["run_id"]))
    return _refused(visit, source, inputs, key, answer, may_have_begun=True)


async def cancel(visit: Visit) -> Page | web.Response:
    """Ask a run to end, its tasks too."""
    return await _ask(visit, "cancel", "Cancel the run")


async def resume(visit: Visit) -> Page | web.Response:
    """Go on with a run that has ended: what failed, was interrupted or cancelled runs again."""
    return await _ask(visit, "resume", "Resume the run")


async def _ask(visit: Visit, verb: str, title: str) -> Page | web.Response:
    form = await posted(visit)
    truth = run_url(visit.part("agent"), visit.part("session"), visit.part("run"))
    path = f"{session_path(visit)}/workflows/{segment(visit.part('run'))}/{verb}"
    answer = await act(visit, visit.agent(), "POST", path)
    return back(visit, form, truth) if answer.ok else not_done(visit, answer, Action(title=title, truth=truth), form)


def _refused(visit: Visit, source: str, inputs: str, key: str, answer: Answer, *, may_have_begun: bool) -> Page:
    """The form again with what is wrong: beside the text where it has a line, else above."""
    code, reason = reason_of(visit, answer)
    found = (answer.problem or {}).get("errors")
    errors = [rowed(each) for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    placed = [each for each in errors if isinstance(each["line"], int) and each["line"] > 0]
    notices = [f"{each['field']}: {each['message']}" for each in errors if each not in placed]
    if not is_known_not_done(answer) and may_have_begun:
        notices = [f"It is unknown whether this was done: {reason}.", SAFE_BY_KEY]
    elif not errors:
        notices = [text for text in (f"Not done: {reason}.", remedy_of(code, answer)) if text]
    if code == "idempotency_conflict":
        key = new_key()
    return _page(visit, source, inputs, key, errors=placed, notices=notices, status=status_of(answer))


def _page(
    visit: Visit,
    source: str,
    inputs: str,
    key: str,
    *,
    errors: list[Any] | None = None,
    notices: list[str] | None = None,
    outline: Row | None = None,
    status: int = 200,
) -> Page:
    return Page(
        template="new_run.html",
        title="Run a workflow",
        model={"errors": errors or [], "notices": notices or [], "outline": outline},
        extra={
            "agent": visit.agent().name,
            "session_id": visit.part("session"),
            "source": source,
            "inputs": inputs,
            "key": key,
            "excerpts": [excerpt(source, error) for error in (errors or [])[:MAX_SHOWN]],
        },
        status=status,
        live=None,
    )


def excerpt(source: str, error: Row) -> dict[str, Any]:
    """What is wrong at a line, with the lines around it: (number, text, whether it is the one) each."""
    lines = source.split("\n")
    at = error["line"]
    first, last = max(1, at - AROUND), min(len(lines), at + AROUND)
    shown = [(number, lines[number - 1], number == at) for number in range(first, last + 1)]
    return {"line": at, "column": error["column"], "message": error["message"], "lines": shown}


_SESSION = "/a/{agent}/s/{session}"

ROUTES: tuple[Route, ...] = (
    ("GET", f"{_SESSION}/workflow", show),
    ("POST", f"{_SESSION}/workflow", start),
    ("POST", f"{_SESSION}/w/{{run}}/cancel", cancel),
    ("POST", f"{_SESSION}/w/{{run}}/resume", resume),
)
