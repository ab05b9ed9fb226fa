"""A window of a log's lines: asked of the agent as a page or a script wants it, and made into rows.

The agent reads its log by number of line, so nothing here grows with the log.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from markupsafe import Markup

from webui.logs import ansi
from webui.logs.row import Line, line_of, row_html
from webui.refusals import Refusal
from webui.rows import Row, refuse
from webui.upstream import Agent, Answer, segment
from webui.visit import Visit, task_url

#: Lines that a script asks for at a time, and that a page of a larger log has.
CHUNK_LINES = 200
#: A log up to so many lines and bytes is a plain page: find, select and print work as everywhere.
PLAIN_LINES = 2000
PLAIN_BYTES = 1 << 20
#: What an agent gives at most in one answer.
MAX_LINES = 1000
#: Of an agent that reads a large log for the first time, in seconds; longer, and the page goes without and asks again.
PATIENCE_S = 2.0

STREAMS = ("", "out", "err")
_LINE = re.compile(r"-?[0-9]{1,15}")


class Window(msgspec.Struct, kw_only=True):
    """Some lines of the log of one attempt, and how much there is; `rows` is for pages alone."""

    url: str  #: of the page of the whole log
    agent: str
    session_id: str
    task_id: str
    attempt: int  #: 1 before the first
    attempts: int
    state: str | None  #: of the task
    cause: str | None  #: why this attempt ended, in words
    stream: str | None
    ts: bool  #: whether times are shown
    pinned: bool  #: whether the address names the attempt; else it is the latest
    lines: list[Line]
    total_lines: int
    size: int
    ended: bool
    sgr: str

    @property
    def first(self) -> int:
        """The number of the first line here; 1 in an empty log."""
        return self.lines[0].line if self.lines else 1

    @property
    def last(self) -> int:
        """The number of the last line here; 0 in an empty log."""
        return self.lines[-1].line if self.lines else 0

    @property
    def rows(self) -> Markup:
        """The lines as HTML."""
        style = ansi.applied(ansi.PLAIN, self.sgr)
        parts = []
        for line in self.lines:
            html, style = row_html(line, style, self.ts, self.line_url)
            parts.append(html)
        return Markup("").join(parts)

    @property
    def parameters(self) -> dict[str, str]:
        """What of the page's parameters says which log this is."""
        found = {"attempt": str(self.attempt)} if self.pinned else {}
        return found | ({"stream": self.stream} if self.stream else {})

    def line_url(self, number: int) -> str:
        """Where one line is shown whole."""
        stream = f"&stream={self.stream}" if self.stream else ""
        return f"{self.url}/line/{number}?attempt={self.attempt}{stream}"


def log_path(agent: str, session_id: str, task_id: Any) -> str:
    """Where a log's page is, without the prefix."""
    return f"{task_url(agent, session_id, task_id)}/log"


def channel(visit: Visit, agent: str, task_id: str, attempt: int | None) -> str:
    """The `log` parameter of a page's stream: it tells how the log grows that the page shows.

    Args:
        attempt: None for the latest, and those that begin after it.
    """
    stream = stream_of(visit)
    return f"{agent}/{task_id}/{attempt or 0}" + (f"/{stream}" if stream else "")


def stream_of(visit: Visit) -> str | None:
    """`out` or `err`, None for both.

    Raises:
        Refusal: it is another.
    """
    return visit.choice("stream", STREAMS) or None


async def first_window(visit: Visit, agent: Agent, task: Row, attempt: int | None) -> Window | None:
    """The log that a page about a task shows with the macro `log_view`; None when the agent did not give it.

    It is the whole of a small log, else the lines from `?line=` on, else its end; `?stream=` and `?ts=1` narrow and
    extend it. Give the page `live={..., "log": channel(visit, agent.name, task_id, attempt)}` too.

    Args:
        task: what the agent says of the task.
        attempt: the one that the address names; None for the latest.

    Raises:
        Refusal: a parameter is wrong, or the agent knows no such attempt.
    """
    number = whole_number(visit, "line", 0)
    latest = task["attempt"] if isinstance(task["attempt"], int) else 0
    asked = attempt if attempt is not None else max(1, latest)
    which = None if asked > latest else asked
    first = number if number else -CHUNK_LINES
    window = await lines_of(visit, agent, task, which, first, CHUNK_LINES)
    if window is None or not 0 < window.total_lines <= PLAIN_LINES or window.size > PLAIN_BYTES:
        return window
    if len(window.lines) == window.total_lines:
        return window
    whole = await lines_of(visit, agent, task, which, 1, MAX_LINES)
    if whole is not None and whole.total_lines > MAX_LINES:
        rest = await lines_of(visit, agent, task, which, MAX_LINES + 1, PLAIN_LINES - MAX_LINES)
        if rest is None:
            return window
        whole.lines += rest.lines
        whole.total_lines, whole.size, whole.ended = rest.total_lines, rest.size, rest.ended
    return whole or window


async def lines_of(visit: Visit, agent: Agent, task: Row, attempt: int | None, first: int, count: int) -> Window | None:
    """Lines from a number on, a negative one from the end; None when the agent did not give them.

    Raises:
        Refusal: the agent knows no such task or attempt.
    """
    task_id, stream = str(task["task_id"]), stream_of(visit)
    answer = await visit.ask(
        agent,
        f"/tasks/{segment(task_id)}/output/lines",
        [("line", str(first)), ("count", str(count)), ("detail", "true"), *which_log(attempt, stream)],
        within_s=max(visit.patience_s, PATIENCE_S),
    )
    found = told(visit, answer, "lines")
    if found is None:
        return None
    lines = [line_of(each) for each in found["lines"]]
    if None in lines or not all(isinstance(found.get(name), int) for name in ("total_lines", "size")):
        refuse(visit, answer, ("lines", "total_lines", "size"))
        return None
    latest = task["attempt"] if isinstance(task["attempt"], int) else 1
    return Window(
        url=visit.url(log_path(agent.name, str(task["session_id"]), task_id)),
        agent=agent.name,
        session_id=str(task["session_id"]),
        task_id=task_id,
        attempt=attempt or max(1, latest),
        attempts=max(1, latest),
        state=str(task["state"]) if task["state"] is not None else None,
        cause=_cause(task, attempt or latest),
        stream=stream,
        ts=visit.query.get("ts") == "1",
        pinned="attempt" in visit.query,
        lines=[line for line in lines if line is not None],
        total_lines=found["total_lines"],
        size=found["size"],
        ended=found.get("ended") is True,
        sgr=found["sgr"] if isinstance(found.get("sgr"), str) else "",
    )


def told(visit: Visit, answer: Answer, listed: str) -> dict[str, Any] | None:
    """What an agent answered about a log, with a list of objects of this name in it; None when it did not.

    Raises:
        Refusal: the agent refuses it: there is no such task, attempt or range.
    """
    if answer.problem is not None and answer.ok is False and answer.http_status < 500:
        code, detail = (str(answer.problem.get(name) or "refused") for name in ("code", "detail"))
        raise Refusal(answer.http_status, code, detail)
    if not answer.ok:
        return None
    found = answer.value if isinstance(answer.value, dict) else {}
    rows = found.get(listed)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        refuse(visit, answer, (listed,))
        return None
    return found


def which_log(attempt: int | None, stream: str | None) -> list[tuple[str, str]]:
    """The parameters that name one log of a task; an attempt of None is the latest."""
    found = [("attempt", str(attempt))] if attempt is not None else []
    return found + ([("stream", stream)] if stream else [])


def whole_number(visit: Visit, name: str, default: int, least: int | None = None, most: int | None = None) -> int:
    """A parameter that is a whole number.

    Raises:
        Refusal: it is none, or not within its bounds.
    """
    given = visit.query.get(name, "").strip() or str(default)
    number = int(given) if _LINE.fullmatch(given) else None
    if number is None or (least is not None and number < least) or (most is not None and number > most):
        bounds = f" from {least}" if least is not None else ""
        raise Refusal(400, "malformed", f"{name}: must be a whole number{bounds}{f' to {most}' if most else ''}")
    return number


def _cause(task: Row, attempt: int) -> str | None:
    """Why an attempt ended, in words; None while it has not."""
    attempts = task["attempts"] if isinstance(task["attempts"], list) else []
    for each in attempts:
        if isinstance(each, dict) and each.get("n") == attempt and isinstance(each.get("cause"), dict):
            return str(each["cause"].get("message") or each["cause"].get("code") or "")
    return None
