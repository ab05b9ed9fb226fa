"""Tasks of all sessions, a page of them: sessions that sleep are read in the order in which they can matter, and no
more of them than the page needs."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from agentd.model.requests import Page, TaskQuery
from agentd.model.task import Task
from agentd.service.listing import key_in, page_of, task_matches

#: Sessions read before it is asked again whether that was enough.
READ_AT_ONCE = 16


class Asleep(NamedTuple):
    """A session that is not in memory, and between which times its tasks were created.

    `latest` is the session's last activity, which no task is younger than. `oldest` is "" until its tasks were read
    once: a clock may have gone back since the session was made.
    """

    session_id: str
    oldest: str
    latest: str


class Listed(NamedTuple):
    """The page, and when the oldest task of each session that was read for it was created."""

    page: Page[Task]
    oldest: dict[str, str]


def first_of(
    awake: Iterable[Iterable[Task]],
    asleep: Iterable[Asleep],
    read: Callable[[Sequence[str]], Iterable[Iterable[Task]]],
    query: TaskQuery,
    descending: bool,
) -> Listed:
    """A page of many sessions' tasks by when they were created; for a thread, as it may read files.

    Raises:
        Malformed: the cursor is not one of this list.
    """
    of = f"tasks {query.sort}"
    last = key_in(query.cursor, of, tuple[str, str]) if query.cursor else None
    first = heapq.nlargest if descending else heapq.nsmallest

    def behind(tasks: Iterable[Task]) -> Iterable[Task]:
        return (
            task
            for task in tasks
            if task_matches(task, query) and (last is None or (age(task) < last if descending else age(task) > last))
        )

    best = first(query.limit + 1, (task for tasks in awake for task in behind(tasks)), key=age)
    oldest: dict[str, str] = {}
    waiting = _in_order(asleep, query, last[0] if last else None, descending)
    while waiting and not (len(best) > query.limit and _beyond(waiting[-1], best[-1], descending)):
        reading = waiting[-READ_AT_ONCE:]
        del waiting[-READ_AT_ONCE:]
        for tasks in read([session.session_id for session in reading]):
            of_one = list(tasks)
            if of_one:
                oldest[of_one[0].session_id] = min(task.created_at for task in of_one)
            best += behind(of_one)
        best = first(query.limit + 1, best, key=age)
    return Listed(page_of(best, age, of, query.limit), oldest)


def _in_order(asleep: Iterable[Asleep], query: TaskQuery, last: str | None, descending: bool) -> list[Asleep]:
    """Those that can have a row of the page; the one to be read first stands last."""
    since, until = query.since or "", query.until
    if descending:
        until = min(until, last) if until and last else until or last
    else:
        since = max(since, last or "")
    wanted = [each for each in asleep if each.latest >= since and (until is None or each.oldest <= until)]
    if descending:
        return sorted(wanted, key=lambda each: each.latest)
    return sorted(wanted, key=lambda each: each.oldest, reverse=True)


def _beyond(session: Asleep, row: Task, descending: bool) -> bool:
    """Whether every task of the session comes after the row."""
    return session.latest < row.created_at if descending else session.oldest > row.created_at


def age(task: Task) -> tuple[str, str]:
    """The order of lists of tasks."""
    return (task.created_at, task.task_id)
