"""The whole log of a task: its page, windows of lines for scripts, search, bytes, and one long line opened."""

from __future__ import annotations

import asyncio

from aiohttp import web

from webui.logs import ansi, raw
from webui.logs.log import Log, attempt_of, channel, log_of, number_of
from webui.logs.search import MAX_MATCHES, Found, Needle, before, following
from webui.logs.window import CHUNK_LINES, MAX_LINES, Window, draw, first_window, lines_of, unanswered
from webui.refusals import Refusal
from webui.rendering import Page, json_answer, wants_json
from webui.routes import Route
from webui.rows import Row, subject
from webui.upstream import Agent, segment
from webui.visit import Visit, session_url

_AT = "/a/{agent}/s/{session}/t/{task}/log"
#: Matches that the page lists for browsers without scripts.
LISTED_MATCHES = 20
#: Bytes of a long line that are shown at a time, and how often its look may change in them.
PIECE_BYTES = 256 << 10
PIECE_RUNS = 5000


async def log(visit: Visit) -> Page:
    """`?attempt=&stream=&line=&ts=1`, `&q=&from=&case=1` to search; `follow=` is for the page's own script."""
    agent, task = await _task(visit)
    task_id = visit.part("task")
    attempt = attempt_of(visit)
    window: Window | None = None
    matches: Found | None = None
    if task is not None:
        window = await first_window(visit, agent, task, attempt)
        if window is not None and visit.query.get("q"):
            needle = _needle(visit, log_of(visit, agent, task, attempt))
            matches = await following(visit, needle, number_of(visit, "from", 1, least=1), LISTED_MATCHES)
    return Page(
        template="log.html",
        title=f"Log of {task_id}",
        model={"task": task, "log": window, "found": matches},
        extra={"agent": agent.name, "session_id": visit.part("session"), "task_id": task_id},
        live={
            "agent": agent.name,
            "session": visit.part("session"),
            "log": channel(visit, agent.name, task_id),
        },
    )


async def lines(visit: Visit) -> web.Response:
    """`?line=&count=&attempt=&stream=&ts=1`: rows, and in attributes how much there is; the same in JSON."""
    named = await _log(visit)
    count = number_of(visit, "count", CHUNK_LINES, least=1, most=MAX_LINES)
    window = await lines_of(visit, named, number_of(visit, "line", 1), count)
    if window is None:
        raise unanswered(visit, named.agent)
    if wants_json(visit.request):
        return json_answer(window)
    await draw(window)
    known = f'data-total="{window.total_lines}" data-size="{window.size}"{" data-ended" if window.ended else ""}'
    return web.Response(text=f'<div class="set" {known}>{window.rows}</div>', content_type="text/html")


async def search(visit: Visit) -> web.Response:
    """`?q=&case=1&attempt=&stream=`, then `&from=` a line on or `&before=` one, at most `&limit=`; in JSON."""
    needle = _needle(visit, await _log(visit))
    limit = number_of(visit, "limit", 100, least=1, most=MAX_MATCHES)
    if "before" in visit.query:
        return json_answer(await before(visit, needle, number_of(visit, "before", 1, least=1), limit))
    return json_answer(await following(visit, needle, number_of(visit, "from", 1, least=1), limit))


async def whole(visit: Visit) -> web.StreamResponse:
    """`?attempt=&stream=`: the bytes, or those of a Range, or of `&lines=10-20`, as a file."""
    return await raw.streamed(visit, await _log(visit))


async def line(visit: Visit) -> Page:
    """`?attempt=&stream=&piece=1`: one line in pieces, for those that are too long for a row."""
    agent, task = await _task(visit)
    number = int(visit.part("line"))
    piece = number_of(visit, "piece", 1, least=1)
    window, text, pieces = None, None, 1
    if task is not None:
        named = log_of(visit, agent, task, attempt_of(visit))
        window = await lines_of(visit, named, number, 1)
        if window is not None:
            if not window.lines:
                raise Refusal(404, "line_not_found", f"the log has {window.total_lines} lines, none is {number}")
            shown = window.lines[0]
            pieces = max(1, -(-shown.length // PIECE_BYTES))
            if piece > pieces:
                raise Refusal(404, "line_not_found", f"piece: line {number} has {pieces}, none is {piece}")
            begin, end = shown.offset + (piece - 1) * PIECE_BYTES, shown.offset + shown.length
            text = await raw.piece(visit, named, begin, min(begin + PIECE_BYTES, end)) if end > begin else ""
    html, _ = await asyncio.to_thread(ansi.line, text or "", ansi.PLAIN, PIECE_RUNS)
    return Page(
        template="log_line.html",
        title=f"Line {number}",
        model={"line": number, "log": window, "text": text, "piece": piece, "pieces": pieces},
        extra={"html": html, "task_id": visit.part("task")},
    )


async def _task(visit: Visit) -> tuple[Agent, Row | None]:
    """The agent and the task that the address names; None where the agent did not say.

    Raises:
        Refusal: there is no such task in the session.
    """
    agent, session_id, task_id = visit.agent(), visit.part("session"), visit.part("task")
    answer = await visit.ask(agent, f"/tasks/{segment(task_id)}")
    hint = f"Its session's page, {visit.url(session_url(agent.name, session_id))}, lists those kept."
    task = subject(visit, answer, "task_id", "session_id", "state", hint=hint)
    if task is not None and task["session_id"] != session_id:
        raise Refusal(404, "task_not_found", f"session {session_id} has no task {task_id}")
    return agent, task


async def _log(visit: Visit) -> Log:
    """The log that the address names, for scripts; the agent is asked for the task only to know the latest attempt.

    Raises:
        Refusal: there is no such task, or the agent did not say.
    """
    attempt = attempt_of(visit)
    if attempt is not None:
        known = Row(task_id=visit.part("task"), session_id=visit.part("session"))
        return log_of(visit, visit.agent(), known, attempt)
    agent, task = await _task(visit)
    if task is None:
        raise unanswered(visit, agent)
    return log_of(visit, agent, task, None)


def _needle(visit: Visit, named: Log) -> Needle:
    return Needle(log=named, text=visit.query.get("q", ""), exact=visit.query.get("case") == "1")


ROUTES: tuple[Route, ...] = (
    ("GET", _AT, log),
    ("GET", _AT + "/lines", lines),
    ("GET", _AT + "/search", search),
    ("GET", _AT + "/raw", whole),
    ("GET", _AT + "/line/{line:[1-9][0-9]{0,14}}", line),
)
