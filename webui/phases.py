"""The phases that an attempt went through, each with how long it took: out of the events of its session."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from webui.rows import Row
from webui.words import moment

#: Phases that are shown; of more, the latest.
MOST = 20


class Phase(NamedTuple):
    """A phase that a task told of."""

    name: str
    began_s: float  #: epoch seconds
    took_s: float
    goes_on: bool


def phases(events: Iterable[Row], task_id: str, now: datetime) -> list[Phase]:
    """The phases of the latest attempt that events tell of, oldest first. One lasts until the next, or the end.

    Args:
        events: of the session, in their order, those of other tasks too.
        now: by the agent's own clock.
    """
    found: list[tuple[str, float]] = []
    end: float | None = None
    for event in events:
        at = moment(event["at"])
        if event["task_id"] != task_id or at is None:
            continue
        kind, name = event["type"], event["phase"]
        if kind == "task.started":
            found, end = [], None
        elif kind in ("task.finished", "task.retried"):
            end = at.timestamp()
        elif kind == "task.progress" and isinstance(name, str) and name and (not found or found[-1][0] != name):
            found.append((name, at.timestamp()))
    ends = [begin for _, begin in found[1:]] + [now.timestamp() if end is None else end]
    every = (
        [
            Phase(name, begin, max(0.0, until - begin), end is None and number == len(found))
            for number, ((name, begin), until) in enumerate(zip(found, ends, strict=True), 1)
        ]
        if found
        else []
    )
    return every[-MOST:]
