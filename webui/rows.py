"""What agents answer, kept as it came: unknown fields, states and kinds are shown, never dropped."""

from __future__ import annotations

from typing import Any

from webui.contact import REASONS
from webui.upstream import Answer
from webui.visit import Visit

MAX_DEPTH = 64


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
    return _named(answer, answer.value)


def many(visit: Visit, answer: Answer, *required: str) -> list[Row] | None:
    """The rows of a page that an agent answered, with `agent` added to each; None when there is none."""
    if not answer.ok:
        return None
    rows = answer.value.get("data") if isinstance(answer.value, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and _has(row, required) for row in rows):
        refuse(visit, answer, ("data", *required))
        return None
    return [_named(answer, row) for row in rows]


def refuse(visit: Visit, answer: Answer, required: tuple[str, ...]) -> None:
    """Count the agent of an answer as incompatible: the answer lacks what every agentd gives."""
    wanted = ", ".join(required)
    visit.note_incompatible(answer.contact, "bad_shape", f"{REASONS['bad_shape']}: {wanted} expected")


def _named(answer: Answer, value: dict[str, Any]) -> Row:
    """The object with the name that the viewer knows its agent by, whatever the agent says of that."""
    return Row({**rowed(value), "agent": answer.contact.agent})


def _has(row: dict[str, Any], required: tuple[str, ...]) -> bool:
    return all(isinstance(row.get(name), str) for name in required)
