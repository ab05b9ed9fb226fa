"""One list out of the lists of several agents: keyset pages, merged in order, partial when an agent is unknown.

An agent's cursor stands at the end of its page, a merged page ends somewhere within. So the merged cursor holds, for
each agent, where its page began and the key of its last row that was shown: what comes or goes meanwhile neither
repeats nor hides other rows. An agent that does not answer keeps its place, and goes on from there when it does.
"""

from __future__ import annotations

import asyncio
import base64
import heapq
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from agentd.client import UNREADABLE
from webui.refusals import Refusal, no_cursor
from webui.rows import Row, many, refusal_of
from webui.upstream import Agent
from webui.visit import Visit

#: The orders that agents have for sessions and for tasks, the usual one first.
SESSION_SORTS = ("-updated_at", "updated_at", "-created_at", "created_at", "session_id")
TASK_SORTS = ("-created_at", "created_at")
#: Pages of one agent that are read for one merged page: one that began earlier, one that goes on, one to spare.
MAX_PAGES = 3
Key = tuple[str, str]


class Order(msgspec.Struct, frozen=True):
    """How a list is sorted, by `field` and then by the id, both ways the same; `name` is the `sort` parameter."""

    name: str
    id_field: str

    @property
    def field(self) -> str:
        """The field, without the sign."""
        return self.name.removeprefix("-")

    @property
    def descends(self) -> bool:
        """Whether the greatest come first."""
        return self.name.startswith("-")

    def key(self, row: Row) -> Key:
        """The key of a row, as agents sort by."""
        return str(row[self.field] or ""), str(row[self.id_field])


class _Place(msgspec.Struct, array_like=True):
    """Where a list goes on at one agent."""

    cursor: str | None = None  #: of the page to read
    shown: Key | None = None  #: the last row of it that was shown
    ended: bool = False


class _Cursor(msgspec.Struct):
    sort: str
    at: dict[str, _Place]


class _Part:
    """What one agent gave for one merged page."""

    def __init__(self, agent: Agent, place: _Place) -> None:
        self.agent = agent
        self.place = place
        self.rows: list[tuple[Row, str | None]] = []  #: each with the cursor of its page
        self.more: str | None = None
        self.known = True
        self.refusal: Refusal | None = None  #: why the agent did not take the question

    def goes_on(self, place: _Place) -> bool:
        """Whether there is more from this place; of an agent that never answered for this list, nothing is known."""
        return not place.ended and (self.known or place != _Place())

    def after(self, shown: int, order: Order) -> _Place:
        """Where to go on when the first so many of the rows were shown."""
        if not self.known:
            return self.place
        if shown == len(self.rows):
            if self.more is None:
                return _Place(ended=True)
            # Pages of nothing but new rows before the place may not have reached it yet.
            return _Place(cursor=self.more, shown=None if self.rows else self.place.shown)
        if shown == 0:
            return self.place
        row, cursor = self.rows[shown - 1]
        return _Place(cursor=cursor, shown=order.key(row))


async def merged(
    visit: Visit,
    agents: Iterable[Agent],
    path: str,
    params: Sequence[tuple[str, str]],
    order: Order,
    *,
    limit: int,
    cursor: str | None,
) -> tuple[list[Row], str | None]:
    """A page of rows of all these agents with `agent` in each, and the cursor of the next page.

    Raises:
        Refusal: the cursor is not one of this list, or no agent takes the parameters; the first says why.
    """
    places = _places(cursor, order)
    parts = [
        _Part(agent, places[agent.name] if places is not None else _Place())
        for agent in agents
        if places is None or (agent.name in places and not places[agent.name].ended)
    ]
    await asyncio.gather(*(_read(visit, part, path, params, order, limit) for part in parts))
    refusals = [part.refusal for part in parts if part.refusal is not None]
    if refusals and len(refusals) == len(parts):
        raise refusals[0]
    runs = [[(order.key(row), part, row) for row, _ in part.rows] for part in parts]
    rows: list[Row] = []
    shown = dict.fromkeys(parts, 0)
    for _, part, row in heapq.merge(*runs, key=lambda entry: entry[0], reverse=order.descends):
        rows.append(row)
        shown[part] += 1
        cut_short = shown[part] == len(part.rows) and part.more is not None  # its next row may be next of all
        if len(rows) == limit or cut_short:
            break
    at = {part.agent.name: part.after(shown[part], order) for part in parts}
    more = any(part.goes_on(at[part.agent.name]) for part in parts)
    return rows, _packed(_Cursor(order.name, at)) if more else None


async def _read(
    visit: Visit, part: _Part, path: str, params: Sequence[tuple[str, str]], order: Order, limit: int
) -> None:
    """Read pages of one agent until there are rows enough, leaving out those shown before; in one patience."""
    cursor = part.place.cursor
    loop = asyncio.get_running_loop()
    left_s = visit.patience_s
    end = loop.time() + left_s
    for _ in range(MAX_PAGES):
        window = [("limit", str(limit)), ("sort", order.name), *([("cursor", cursor)] if cursor else [])]
        answer = await visit.ask(part.agent, path, [*params, *window], within_s=left_s)
        left_s = max(0.0, end - loop.time())
        rows = many(visit, answer, order.id_field)
        if rows is None:
            visit.note_not_taken(answer)
            if answer.problem is not None and answer.http_status == 400:  # its word that the question itself is wrong
                part.refusal = refusal_of(answer)
            part.known = False
            part.rows.clear()
            return
        last = part.place.shown
        part.rows += [(row, cursor) for row in rows if last is None or _is_after(order.key(row), last, order)]
        found: Any = answer.value.get("next")
        part.more = cursor = found if isinstance(found, str) else None
        if cursor is None or len(part.rows) >= limit:
            return


def _is_after(key: Key, last: Key, order: Order) -> bool:
    return key < last if order.descends else key > last


def _places(cursor: str | None, order: Order) -> dict[str, _Place] | None:
    if not cursor:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        found = msgspec.json.decode(text, type=_Cursor)
    except (ValueError, *UNREADABLE):
        found = None
    if found is None or found.sort != order.name:
        raise no_cursor()
    return found.at


def _packed(cursor: _Cursor) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode().rstrip("=")
