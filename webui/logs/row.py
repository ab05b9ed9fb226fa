"""One line of a log as an agent tells it, and as a row of a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from markupsafe import Markup, escape

from webui import words
from webui.logs import ansi

#: Characters of a line that a row has at most, whatever the agent's own limit; the rest is a click away.
MAX_CHARACTERS = 8192


class Line(msgspec.Struct, kw_only=True):
    """One line; `offset` and `length` are its bytes in the log, without its line feed."""

    line: int
    offset: int
    length: int
    text: str
    truncated: bool
    at: str | None  #: when its first byte was written
    stream: str | None


def line_of(told: dict[str, Any]) -> Line | None:
    """The line that an agent tells of; None when it is none."""
    number, text = told.get("line"), told.get("text")
    offset, length = told.get("offset"), told.get("length")
    if not isinstance(number, int) or not isinstance(text, str):
        return None
    at, stream = told.get("at"), told.get("stream")
    return Line(
        line=number,
        offset=offset if isinstance(offset, int) else 0,
        length=length if isinstance(length, int) else len(text.encode("utf-8", "replace")),
        text=text[:MAX_CHARACTERS],
        truncated=told.get("truncated") is True or len(text) > MAX_CHARACTERS,
        at=at if isinstance(at, str) else None,
        stream=stream if isinstance(stream, str) else None,
    )


def row_html(line: Line, style: ansi.Style, times: bool, url_of: Callable[[int], str]) -> tuple[Markup, ansi.Style]:
    """A line as a row, and the style that the next one begins with."""
    html, style = ansi.line(line.text, style)
    n = line.line
    kind = "ln err" if line.stream == "err" else "ln"
    mark = ' title="stderr"' if line.stream == "err" else ""
    time = _time(line.at) if times else ""
    more = ""
    if line.truncated:
        size = escape(words.size(line.length))
        more = f'<a class="whole" href="{escape(url_of(n))}">whole line, {size}</a>'
    return Markup(  # noqa: S704 - each part is escaped where it is made
        f'<div class="{kind}" id="L{n}"><a href="#L{n}" tabindex="-1"{mark}>{n}</a>{time}{more}{html}</div>\n'
    ), style


def _time(at: str | None) -> str:
    if at is None or words.moment(at) is None:
        return '<time class="none">·</time>'
    return f'<time datetime="{escape(at)}" title="{escape(at)}">{escape(at[11:23])}</time>'
