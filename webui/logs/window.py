"""A window of a log's lines: asked of the agent as a page or a script wants it, and made into rows.

The agent reads its log by number of line, so nothing here grows with the log.
"""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import Any

import msgspec
from markupsafe import Markup

from webui.contact import Trouble
from webui.logs import ansi
from webui.logs.log import Log, log_of, number_of
from webui.logs.row import Line, line_of, row_html
from webui.refusals import Refusal
from webui.rows import Row, refusal_of, refuse
from webui.upstream import Agent, Answer
from webui.visit import Visit
from webui.words import cause_of

#: Lines that a script asks for at a time, and that a page of a larger log has.
CHUNK_LINES = 200
#: A log up to so many lines and bytes is a plain page: find, select and print work as everywhere.
PLAIN_LINES = 2000
PLAIN_BYTES = 1 << 20
#: What an agent gives at most in one answer.
MAX_LINES = 1000
#: Lines of so many characters take longer to draw than others may wait.
LONG_CHARACTERS = 100_000
#: Of an agent that reads a large log for the first time, in seconds; longer, and the page goes without and asks again.
PATIENCE_S = 2.0


class Window(msgspec.Struct, kw_only=True, dict=True):
    """Some lines of a log, and how much of it there is; `rows` is for pages alone."""

    agent: str
    task_id: str
    attempt: int  #: 0 before the first
    stream: str | None
    lines: list[Line]
    total_lines: int
    size: int
    ended: bool
    sgr: str
    url: str  #: of the log's page
    times: bool = False  #: whether rows have the time
    attempts: int | None = None  #: how many there are; None where that was not asked for
    state: str | None = None  #: of the task, where the attempt is its latest
    cause: str | None = None  #: why the attempt ended, in words

    @property
    def first(self) -> int:
        """The number of the first line here; 1 in an empty log."""
        return self.lines[0].line if self.lines else 1

    @property
    def last(self) -> int:
        """The number of the last line here; 0 in an empty log."""
        return self.lines[-1].line if self.lines else 0

    @property
    def which(self) -> dict[str, str]:
        """The parameters of the log's page that name this one, also when there are later attempts."""
        found = {"attempt": str(self.attempt)} if self.attempt else {}
        return found | ({"stream": self.stream} if self.stream else {})

    @cached_property
    def rows(self) -> Markup:
        """The lines as HTML."""
        style = ansi.applied(ansi.PLAIN, self.sgr)
        parts = []
        for line in self.lines:
            html, style = row_html(line, style, self.times, self._line_url)
            parts.append(html)
        return Markup("").join(parts)

    def _line_url(self, number: int) -> str:
        return f"{self.url}/line/{number}?" + "&".join(f"{name}={value}" for name, value in self.which.items())


async def first_window(visit: Visit, agent: Agent, task: Row, attempt: int | None) -> Window | None:
    """The log that a page about a task shows with the macro `log_view`; None when the agent did not give it.

    It is the whole of a small log, else the lines from `?line=` on, else its end; `?stream=` and `?ts=1` narrow and
    extend it. The page's `live` needs `"log": channel(visit, agent.name, task_id)` as well.

    Args:
        task: what the agent says of the task.
        attempt: the one that the address names; None for the latest.

    Raises:
        Refusal: a parameter is wrong, or the agent knows no such attempt.
    """
    log = log_of(visit, agent, task, attempt)
    first = number_of(visit, "line", 0) or -CHUNK_LINES
    window = await lines_of(visit, log, first, CHUNK_LINES)
    if window is not None and not window.lines and window.total_lines:
        window = await lines_of(visit, log, -CHUNK_LINES, CHUNK_LINES)  # the log has no such line
    if window is not None and len(window.lines) < window.total_lines <= PLAIN_LINES and window.size <= PLAIN_BYTES:
        window = await _all_lines(visit, log) or window
    if window is not None:
        window.attempts = task["attempt"] if isinstance(task["attempt"], int) else None
        window.state = str(task["state"]) if log.attempt == window.attempts else None
        window.cause = _cause(task, log.attempt)
        await draw(window)
    return window


async def _all_lines(visit: Visit, log: Log) -> Window | None:
    window = await lines_of(visit, log, 1, MAX_LINES)
    while window is not None and window.last < min(window.total_lines, PLAIN_LINES):
        more = await lines_of(visit, log, window.last + 1, min(MAX_LINES, PLAIN_LINES - window.last))
        if more is None or more.last <= window.last:
            break  # it gives fewer than it says
        window.lines += more.lines
        window.total_lines, window.size, window.ended = more.total_lines, more.size, more.ended
    return window


async def lines_of(visit: Visit, log: Log, first: int, count: int) -> Window | None:
    """Lines from a number on, a negative one from the end; None when the agent did not give them.

    Raises:
        Refusal: the agent knows no such task or attempt.
    """
    answer = await visit.ask(
        log.agent,
        f"{log.at_agent}/lines",
        [("line", str(first)), ("count", str(count)), ("detail", "true"), *log.params],
        within_s=max(visit.patience_s, PATIENCE_S),
    )
    found = told(visit, answer, "lines")
    if found is None:
        return None
    lines = [line_of(each) for each in found["lines"]]
    if None in lines or not all(isinstance(found.get(name), int) for name in ("total_lines", "size")):
        refuse(visit, answer, ("lines", "total_lines", "size"))
        return None
    return Window(
        agent=log.agent.name,
        task_id=log.task_id,
        attempt=log.attempt,
        stream=log.stream,
        lines=[line for line in lines if line is not None],
        total_lines=found["total_lines"],
        size=found["size"],
        ended=found.get("ended") is True,
        sgr=found["sgr"] if isinstance(found.get("sgr"), str) else "",
        url=visit.url(log.page),
        times=visit.query.get("ts") == "1",
    )


async def draw(window: Window) -> None:
    """Make the rows; many and long ones beside the loop, so that no one else waits for them."""
    if sum(len(line.text) for line in window.lines) > LONG_CHARACTERS:
        await asyncio.to_thread(lambda: window.rows)


def told(visit: Visit, answer: Answer, listed: str) -> dict[str, Any] | None:
    """What an agent answered about a log, with a list of objects of this name in it; None when it did not.

    Raises:
        Refusal: the agent refuses it: there is no such task, attempt or range.
    """
    if answer.problem is not None and answer.http_status < 500:
        raise refusal_of(answer)
    if not answer.ok:
        return None
    found = answer.value if isinstance(answer.value, dict) else {}
    rows = found.get(listed)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        refuse(visit, answer, (listed,))
        return None
    return found


def unanswered(visit: Visit, agent: Agent, trouble: Trouble | None = None) -> Refusal:
    """What a script is told where a page would say that the agent is unknown."""
    contact = visit.contacts.get(agent.name)
    code, reason = (contact.reason_code, contact.reason) if contact is not None else (None, None)
    if trouble is not None:
        code, reason = trouble.code, trouble.detail
    return Refusal(502, code or "unreachable", f"agent {agent.name}: {reason or 'it did not answer'}")


def _cause(task: Row, attempt: int) -> str | None:
    """Why an attempt ended, in words; None while it has not."""
    attempts = task["attempts"] if isinstance(task["attempts"], list) else []
    for each in attempts:
        if isinstance(each, dict) and each.get("n") == attempt and isinstance(each.get("cause"), dict):
            return cause_of(each)
    return None
