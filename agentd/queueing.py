"""The queue as people see it: positions and ages. Pure functions over what the scheduler knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agentd.clock import epoch
from agentd.model.requests import QueueItem, QueueView, Window
from agentd.model.task import State, Task
from agentd.service.listing import cursor_of, parts_of


class Waiting(NamedTuple):
    """A task that does not run, whether it could, and why it does not."""

    task: Task
    ready: bool
    reason: str


def queue_view(rows: Sequence[Waiting], rotation: Sequence[str], now: float, window: Window) -> QueueView:
    """A page of the queue: first what is ready, in the order it would run, then the rest by age.

    Sessions take turns, so the n-th ready task of each comes before the n+1-th of any.
    """
    turn = {session_id: index for index, session_id in enumerate(rotation)}
    ready: list[tuple[int, int, str, Waiting]] = []
    nth: dict[str, int] = {}
    for row in sorted((r for r in rows if r.ready), key=lambda r: (-r.task.priority, r.task.seq)):
        session_id = row.task.session_id
        rank = nth[session_id] = nth.get(session_id, -1) + 1
        ready.append((rank, turn.get(session_id, len(turn)), row.task.created_at, row))
    ready.sort(key=lambda each: each[:3])
    items = [_item(row, position) for position, (_, _, _, row) in enumerate(ready)]
    rest = sorted((r for r in rows if not r.ready), key=lambda r: (r.task.created_at, r.task.task_id))
    items += [_item(row, None) for row in rest]
    start = parts_of(window.cursor, tuple[int])[0] if window.cursor else 0
    page = items[start : start + window.limit]
    end = start + len(page)
    queued = [row.task for row in rows if row.task.state is State.QUEUED]
    oldest = min((task.queued_at or task.created_at for task in queued), default=None)
    return QueueView(
        depth=len(queued),
        waiting=len(rows) - len(queued),
        oldest_age_s=max(0.0, now - epoch(oldest)) if oldest else None,
        data=tuple(page),
        next=cursor_of([end]) if end < len(items) else None,
    )


def _item(row: Waiting, position: int | None) -> QueueItem:
    task = row.task
    return QueueItem(
        task_id=task.task_id,
        session_id=task.session_id,
        state=task.state,
        queue=task.queue,
        priority=task.priority,
        position=position,
        reason=row.reason,
        created_at=task.created_at,
    )
