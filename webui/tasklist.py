"""The tasks of a session in the order that matters: what runs, what waits, then what ended last; in pages by key.

A session answers with its live tasks and the latest that finished; those older are in its history, which is read where
the others end. A page is cut after a key, never at an offset, so what comes or goes meanwhile hides no row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from webui.refusals import Refusal, no_cursor
from webui.rows import Row, many
from webui.upstream import Agent, segment
from webui.visit import Visit
from webui.words import TERMINAL, command_of, moment

PAGE_ROWS = 100
#: Rows that one request to a history may ask for.
MOST_ROWS = 1000
#: Begins the cursor of what is in the history alone.
_OLDER = "older"
_RANKS = {"running": 0, "queued": 1, "waiting": 2}

Key = tuple[int, float, str]


class Listing(NamedTuple):
    """A page of tasks, and the cursor of the next one."""

    rows: list[Row]
    next: str | None


def ended(task: Mapping[str, Any]) -> bool:
    """Whether a task is over, also in a state that this version does not know."""
    return task.get("state") in TERMINAL or moment(task.get("ended_at")) is not None


def key(task: Row) -> Key:
    """Where a task stands: running, queued, waiting, others, each oldest first; then those that ended, latest first."""
    if ended(task):
        return 4, -_epoch(task["ended_at"]), str(task["task_id"])
    return _RANKS.get(str(task["state"]), 3), _epoch(task["created_at"]), str(task["task_id"])


async def page(visit: Visit, agent: Agent, session_id: str, tasks: Sequence[Row]) -> Listing:
    """`?state=&q=&limit=&cursor=` of a session's tasks.

    Args:
        tasks: those that the session itself answered with.

    Raises:
        Refusal: the cursor is not one of this list.
    """
    limit = visit.limit(PAGE_ROWS, PAGE_ROWS)
    place = visit.query.get("cursor") or ""
    if place.startswith(f"{_OLDER}~"):
        return await _older(visit, agent, session_id, tasks, limit, place.partition("~")[2])
    after = _key_of(place) if place else None
    found = sorted((task for task in tasks if _matches(visit, task)), key=key)
    rows = [task for task in found if after is None or key(task) > after]
    if len(rows) > limit:
        return Listing(rows[:limit], "~".join(map(str, key(rows[limit - 1]))))
    return Listing(rows, f"{_OLDER}~" if await _has_older(visit, agent, session_id, tasks) else None)


async def _has_older(visit: Visit, agent: Agent, session_id: str, tasks: Sequence[Row]) -> bool:
    """Whether the history has more: its first record is not among the tasks at hand."""
    if not _ended_wanted(visit):
        return False
    answer = await visit.ask(agent, _history(session_id), [("limit", "1"), ("sort", "created_at")])
    first = many(visit, answer, "task_id") or []
    return any(each["task_id"] not in {task["task_id"] for task in tasks} for each in first)


async def _older(visit: Visit, agent: Agent, session_id: str, tasks: Sequence[Row], limit: int, cursor: str) -> Listing:
    """Finished tasks that the session no longer answers with."""
    if not _ended_wanted(visit):
        return Listing([], None)
    at_hand = {task["task_id"] for task in tasks}
    # The history begins with those at hand; they are asked for once more and left out.
    many_rows = limit if cursor else min(limit + sum(map(ended, tasks)), MOST_ROWS)
    params = [*visit.passed_on("q"), *(("state", state) for state in _states(visit) if state in TERMINAL)]
    params += [("limit", str(many_rows)), *([("cursor", cursor)] if cursor else [])]
    answer = await visit.ask(agent, _history(session_id), params)
    if answer.problem is not None:
        raise Refusal(400, "malformed", str(answer.problem.get("detail")), hint="Begin at the first page.")
    rows = [row for row in many(visit, answer, "task_id") or [] if row["task_id"] not in at_hand]
    following = answer.value.get("next") if isinstance(answer.value, dict) else None
    return Listing(rows, f"{_OLDER}~{following}" if isinstance(following, str) else None)


def nested(rows: Sequence[Row]) -> list[tuple[Row, int]]:
    """The tasks of a page, each under the one that submitted it where that is there too, with how many it is under."""
    at_hand = {row["task_id"] for row in rows}
    under: dict[object, list[Row]] = {}
    top: list[Row] = []
    for row in rows:
        parent = row["parent_id"]
        if isinstance(parent, str) and parent in at_hand and parent != row["task_id"]:
            under.setdefault(parent, []).append(row)
        else:
            top.append(row)
    found: list[tuple[Row, int]] = []
    left = [(row, 0) for row in reversed(top)]
    while left:
        row, depth = left.pop()
        found.append((row, depth))
        left += [(child, depth + 1) for child in reversed(under.pop(row["task_id"], []))]
    return [*found, *((row, 0) for lost in under.values() for row in lost)]  # a circle, which no good agent tells of


def _states(visit: Visit) -> list[str]:
    return [state for state in visit.query.getall("state", []) if state]


def _ended_wanted(visit: Visit) -> bool:
    states = _states(visit)
    return not states or any(state in TERMINAL for state in states)


def _matches(visit: Visit, task: Row) -> bool:
    """As agents filter: any of the states, and the text in the name or the command."""
    states, text = _states(visit), (visit.query.get("q") or "").casefold()
    if states and task["state"] not in states:
        return False
    command = command_of({**task, "name": None})
    return text in str(task["name"] or "").casefold() or text in command.casefold()


def _key_of(cursor: str) -> Key:
    try:
        rank, number, task_id = cursor.split("~", 2)
        return int(rank), float(number), task_id
    except ValueError:
        raise no_cursor() from None


def _epoch(time: object) -> float:
    at = moment(time)
    return at.timestamp() if at is not None else 0.0


def _history(session_id: str) -> str:
    return f"/sessions/{segment(session_id)}/history"
