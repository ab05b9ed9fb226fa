"""The queue as people see it: positions and ages. Pure functions over what the scheduler knows."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from agentd.clock import epoch
from agentd.lanes import Lane, Lanes
from agentd.model.consequences import open_needs
from agentd.model.launch import Capacity
from agentd.model.requests import QueueItem, QueueView, Window
from agentd.model.task import State, Task
from agentd.service.listing import cursor_of, key_in
from agentd.store.ledger import Ledger


class Row(NamedTuple):
    """A task that is queued or waiting, where, and whether it could run."""

    task: Task
    ledger: Ledger
    lane: Lane | None
    ready: bool


def queue_view(
    ledgers: Iterable[Ledger], lanes: Lanes, window: Window, *, capacity: Capacity, draining: bool, now: float
) -> QueueView:
    """A page of the queue: first what is ready, in the order it would run, then the rest by age.

    Sessions take turns, so the n-th ready task of each comes before the n+1-th of any.
    """
    rows = []
    for ledger in ledgers:
        for task in ledger.tasks.values():
            if task.state in (State.QUEUED, State.WAITING):
                lane = lanes.of(task)
                ready = lane is not None and task.task_id in lane.queued
                rows.append(Row(task, ledger, lane, ready))
    start = max(0, key_in(window.cursor, "queue", int)) if window.cursor else 0
    shown = _in_turn(rows, lanes.turns(), start + window.limit)
    if (room := start + window.limit - len(shown)) > 0:
        shown += heapq.nsmallest(room, (row for row in rows if not row.ready), key=_age)
    page = [
        _item(row, position if row.ready else None, _reason(row, capacity, draining, now))
        for position, row in enumerate(shown[start:], start)
    ]
    end = start + len(page)
    queued = [row.task for row in rows if row.task.state is State.QUEUED]
    oldest = min((task.queued_at or task.created_at for task in queued), default=None)
    return QueueView(
        depth=len(queued),
        waiting=len(rows) - len(queued),
        oldest_age_s=max(0.0, now - epoch(oldest)) if oldest else None,
        data=tuple(page),
        next=cursor_of("queue", end) if end < len(rows) else None,
    )


def _age(row: Row) -> tuple[str, str]:
    return row.task.created_at, row.task.task_id


def _in_turn(rows: Iterable[Row], rotation: Sequence[tuple[str, str | None]], count: int) -> list[Row]:
    """The first so many that are ready, in the order in which they would run."""
    turn = {lane_id: index for index, lane_id in enumerate(rotation)}
    nth: dict[tuple[str, str | None], int] = {}
    ordered = []
    for row in sorted((r for r in rows if r.ready), key=lambda r: (-r.task.priority, r.task.seq)):
        lane_id = (row.task.session_id, row.task.parent_id)
        rank = nth[lane_id] = nth.get(lane_id, -1) + 1
        ordered.append((rank, turn.get(lane_id, len(turn)), row.task.created_at, row.task.task_id, row))
    return [row for *_, row in heapq.nsmallest(count, ordered)]  # an id is there once: rows are not compared


def _reason(row: Row, capacity: Capacity, draining: bool, now: float) -> str:
    task, lane = row.task, row.lane
    if task.state is State.WAITING:
        needs = open_needs(task, row.ledger.head)
        return f"needs {', '.join(needs)}" if needs else f"not before {task.not_before}"
    if draining:
        return "the daemon is draining"
    if lane is not None and task.task_id in lane.parked:
        return f"no worker serves queue {task.queue!r}"
    if task.next_attempt_at is not None and epoch(task.next_attempt_at) > now:
        return f"its next attempt is due at {task.next_attempt_at}"
    if lane is not None and lane.held is not None:
        return lane.held
    if lane is not None and len(lane.running) >= lane.max_parallel:
        runs = "the session" if task.parent_id is None else f"of task {task.parent_id} the session"
        return f"{runs} runs {len(lane.running)} of max_parallel {lane.max_parallel}"
    if lane is not None and (waiting := lane.queued.get(task.task_id)) is not None and lane.is_excluded(waiting):
        return f"task {lane.user_of(waiting)} has the session's {waiting.exclusive} for itself"
    if capacity.degraded:
        return "the workers are degraded and back off"
    return f"all workers are busy ({capacity.busy} of {capacity.max})"


def _item(row: Row, position: int | None, reason: str) -> QueueItem:
    task = row.task
    return QueueItem(
        task_id=task.task_id,
        session_id=task.session_id,
        state=task.state,
        queue=task.queue,
        priority=task.priority,
        position=position,
        reason=reason,
        created_at=task.created_at,
    )
