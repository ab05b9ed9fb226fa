"""Search over a whole log, forwards and back; an agent itself searches only forwards."""

from __future__ import annotations

import asyncio

import msgspec

from webui.logs.log import Log
from webui.logs.row import Line, line_of
from webui.logs.window import told, unanswered
from webui.refusals import Refusal
from webui.rows import refuse
from webui.visit import Visit

#: Matches that are given at a time, at most.
MAX_MATCHES = 1000
#: Characters of a text to search for; an agent's own limit.
MAX_TEXT = 1000
#: An agent reads some GB in so many seconds.
PATIENCE_S = 30.0
#: Looks at a log to find what lies just before a line, in one with more matches than an agent gives at once.
MAX_LOOKS = 32


class Found(msgspec.Struct, kw_only=True):
    """Some of the lines that hold a text."""

    q: str
    total: int  #: lines of the whole log that hold it
    first: int  #: which of them the first given is, from 1
    matches: list[Line]


class Needle(msgspec.Struct, frozen=True, kw_only=True):
    """What is searched for, and in which log."""

    log: Log
    text: str
    exact: bool  #: whether upper and lower case differ


async def following(visit: Visit, needle: Needle, line: int, limit: int) -> Found:
    """The first matches from a line on.

    Raises:
        Refusal: the text cannot be searched for, there is no such log, or the agent did not answer.
    """
    if line <= 1:
        total, matches = await _ask(visit, needle, 1, limit)
        return Found(q=needle.text, total=total, first=1, matches=matches)
    (total, _), (rest, matches) = await asyncio.gather(_ask(visit, needle, 1, 1), _ask(visit, needle, line, limit))
    return Found(q=needle.text, total=max(total, rest), first=max(total - rest, 0) + 1, matches=matches)


async def before(visit: Visit, needle: Needle, line: int, limit: int) -> Found:
    """The last matches before a line, in their order.

    Raises:
        Refusal: as of `following`.
    """
    total, begun = await _ask(visit, needle, 1, MAX_MATCHES)
    start, matches, left = 1, begun, total
    if len(begun) < total and begun[-1].line < line:  # more lie between these and the line
        near, far = 0, line - 1  # no match is so near; from so far on, the nearest are not among those given
        span = line * MAX_MATCHES // (2 * total)
        for _ in range(MAX_LOOKS):
            span = min(max(span, near + 1), far)
            start = line - span
            left, matches = await _ask(visit, needle, start, MAX_MATCHES)
            if not matches or matches[0].line >= line:
                near, span = span, span * 4 if span * 4 < far else (span + far) // 2
            elif len(matches) < left and matches[-1].line < line - 1:
                far, span = span, (near + span) // 2
            else:
                break
    below = [each for each in matches if each.line < line]
    shown = below[-limit:]
    first = max(total - left, 0) + 1 + len(below) - len(shown)
    return Found(q=needle.text, total=total, first=first, matches=shown)


async def _ask(visit: Visit, needle: Needle, line: int, limit: int) -> tuple[int, list[Line]]:
    """How many lines hold the text from a line on, and the first of them."""
    if not 0 < len(needle.text) <= MAX_TEXT or "\n" in needle.text:
        raise Refusal(400, "malformed", f"q: must be 1 to {MAX_TEXT} characters in one line")
    params = [("q", needle.text), ("limit", str(limit)), ("from_line", str(line))]
    if not needle.exact:
        params.append(("ignore_case", "true"))
    answer = await visit.ask(
        needle.log.agent,
        f"{needle.log.at_agent}/search",
        [*params, *needle.log.params],
        within_s=max(visit.patience_s, PATIENCE_S),
    )
    found = told(visit, answer, "matches")
    matches = [line_of(each) for each in found["matches"]] if found is not None else []
    if found is not None and (None in matches or not isinstance(found.get("total"), int)):
        refuse(visit, answer, ("matches", "total"))
        found = None
    if found is None:
        raise unanswered(visit, needle.log.agent)
    return found["total"], [each for each in matches if each is not None]
