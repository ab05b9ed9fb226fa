"""What agents answer, kept as it came: unknown fields, states and kinds are shown, never dropped."""

from __future__ import annotations

from typing import Any

from webui.contact import REASONS
from webui.refusals import Refusal
from webui.upstream import MAX_DETAIL, Answer
from webui.visit import Visit

MAX_DEPTH = 64
#: Of one page of a list: the largest `limit` that agents take.
MAX_ROWS = 1000
#: Of one object with all that is in it, and of a page of them: a task with a thousand attempts has 50,000. All of it is
#: looked at, and much of it drawn, while nobody else is served.
MAX_VALUES = 200_000
MAX_PAGE_VALUES = 1_000_000


class Row(dict[str, Any]):
    """An object of an agent's; a field it does not have is None, so that templates may ask for any."""

    def __missing__(self, key: str) -> None:
        return None


def rowed(value: Any, depth: int = MAX_DEPTH) -> Any:
    """The value with all its objects as rows."""
    if depth and isinstance(value, dict):
        return Row((key, rowed(each, depth - 1)) for key, each in value.items())
    if depth and isinstance(value, list):
        return [rowed(each, depth - 1) for each in value]
    return value


def one(visit: Visit, answer: Answer, *required: str) -> Row | None:
    """The object that an agent answered, with `agent` added; None when there is none.

    An answer of another shape makes the agent incompatible, for the whole of this visit.
    """
    if not answer.ok:
        return None
    if not isinstance(answer.value, dict) or not _has(answer.value, required):
        refuse(visit, answer, required)
        return None
    if not _within(answer.value, MAX_VALUES):
        visit.note_incompatible(answer.contact, "too_large", REASONS["too_large"])
        return None
    return _named(answer, answer.value)


def many(visit: Visit, answer: Answer, *required: str) -> list[Row] | None:
    """The rows of a page that an agent answered, with `agent` added to each; None when there is none."""
    if not answer.ok:
        return None
    rows = answer.value.get("data") if isinstance(answer.value, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and _has(row, required) for row in rows):
        refuse(visit, answer, ("data", *required))
        return None
    if len(rows) > MAX_ROWS or not _within(rows, MAX_PAGE_VALUES):
        visit.note_incompatible(answer.contact, "too_large", REASONS["too_large"])
        return None
    return [_named(answer, row) for row in rows]


def subject(visit: Visit, answer: Answer, *required: str, hint: str) -> Row | None:
    """The one thing that a page is about, as `one`; None when it is unknown.

    Raises:
        Refusal: the agent says that there is none, or refuses; with its own status and words.
    """
    if answer.problem is not None:
        raise refusal_of(answer, hint)
    return one(visit, answer, *required)


def refusal_of(answer: Answer, hint: str | None = None) -> Refusal:
    """What an agent refused, as the viewer's own answer."""
    problem = answer.problem or {}
    code = str(problem.get("code") or "refused")
    detail = str(problem.get("detail") or problem.get("title") or f"the agent answered {answer.http_status}")
    return Refusal(answer.http_status, code, detail[:MAX_DETAIL], hint=hint)


def refuse(visit: Visit, answer: Answer, required: tuple[str, ...]) -> None:
    """Count the agent of an answer as incompatible: the answer lacks what every agentd gives."""
    wanted = ", ".join(required)
    visit.note_incompatible(answer.contact, "bad_shape", f"{REASONS['bad_shape']}: {wanted} expected")


def _named(answer: Answer, value: dict[str, Any]) -> Row:
    """The object with the name that the viewer knows its agent by, whatever the agent says of that."""
    return Row({**rowed(value), "agent": answer.contact.agent})


def _within(value: Any, most: int) -> bool:
    """Whether no more than so many values are in it, at any depth."""
    left = most
    inside = [value]
    while inside and left >= 0:
        each = inside.pop()
        if isinstance(each, dict | list):
            left -= len(each)
            inside.extend(each.values() if isinstance(each, dict) else each)
    return left >= 0


def _has(row: dict[str, Any], required: tuple[str, ...]) -> bool:
    return all(isinstance(row.get(name), str) for name in required)
