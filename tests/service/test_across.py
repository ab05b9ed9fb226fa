"""Lists over all sessions: the same rows as if every session were read, and no more of them read than a page needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from agentd.clock import rfc3339
from agentd.model.requests import TaskQuery
from agentd.model.task import State, Task
from agentd.service.across import READ_AT_ONCE, Asleep, age, first_of


class Sessions:
    """Sessions that are not in memory; it counts which of them were read."""

    def __init__(self, created: Sequence[Sequence[int]]) -> None:
        self.tasks = {
            f"s{number:04}": [_task(f"s{number:04}", at, n) for n, at in enumerate(times)]
            for number, times in enumerate(created)
        }
        self.oldest: dict[str, str] = {}
        self.read: list[str] = []

    def asleep(self) -> list[Asleep]:
        return [
            Asleep(each, self.oldest.get(each, ""), max((task.created_at for task in tasks), default=_at(0)))
            for each, tasks in self.tasks.items()
        ]

    def read_tasks(self, session_ids: Sequence[str]) -> list[Iterable[Task]]:
        self.read += session_ids
        return [self.tasks[each] for each in session_ids]

    def walked(self, query: TaskQuery, *, awake: Sequence[Task] = ()) -> list[Task]:
        """Every row, page by page, with what each page taught."""
        rows: list[Task] = []
        cursor = None
        while True:
            asked = TaskQuery(limit=query.limit, sort=query.sort, since=query.since, until=query.until, cursor=cursor)
            page, oldest = first_of([awake], self.asleep(), self.read_tasks, asked, query.sort.startswith("-"))
            self.oldest |= oldest
            rows += page.data
            if (cursor := page.next) is None:
                return rows


def _at(minute: int) -> str:
    return rfc3339(1_800_000_000.0 + 60 * minute)


def _task(session_id: str, minute: int, number: int) -> Task:
    return Task(
        task_id=f"{session_id}-{number}", session_id=session_id, kind="shell", spec={}, state=State.COMPLETED,
        created_at=_at(minute),
    )  # fmt: skip


minutes = st.integers(0, 12)


@given(
    st.lists(st.lists(minutes, max_size=5), max_size=60),
    st.lists(minutes, max_size=5),
    st.sampled_from(["created_at", "-created_at"]),
    st.integers(1, 7),
    st.none() | minutes,
    st.none() | minutes,
)
def test_pages_over_all_sessions_have_every_row_once_in_order_however_the_clock_went(
    created: list[list[int]], awake: list[int], sort: str, limit: int, since: int | None, until: int | None
) -> None:
    sessions = Sessions(created)
    resident = [_task("resident", at, number) for number, at in enumerate(awake)]
    low, high = (None if each is None else _at(each) for each in (since, until))
    query = TaskQuery(limit=limit, sort=sort, since=low, until=high)
    everything = [*resident, *(task for tasks in sessions.tasks.values() for task in tasks)]
    expected = sorted(
        (t for t in everything if (low is None or t.created_at >= low) and (high is None or t.created_at < high)),
        key=age,
        reverse=sort.startswith("-"),
    )
    for _ in range(2):  # before and after it is known how old the tasks of each session are
        assert sessions.walked(query, awake=resident) == expected


def test_a_page_reads_the_sessions_that_were_active_last_and_a_walk_reads_each_about_once() -> None:
    sessions = Sessions([range(n * 10, n * 10 + 10) for n in range(1000)])
    query = TaskQuery(limit=100)
    page, _ = first_of([], sessions.asleep(), sessions.read_tasks, query, True)
    assert page.data[0].session_id == "s0999"
    assert len(sessions.read) <= 2 * READ_AT_ONCE
    sessions.read.clear()
    assert len(sessions.walked(query)) == 10_000
    assert len(sessions.read) <= 3 * len(sessions.tasks)


def test_the_oldest_first_are_found_by_what_was_read_before() -> None:
    sessions = Sessions([range(n * 10, n * 10 + 10) for n in range(200)])
    query = TaskQuery(limit=20, sort="created_at")
    _, sessions.oldest = first_of([], sessions.asleep(), sessions.read_tasks, query, False)
    sessions.read.clear()
    page, _ = first_of([], sessions.asleep(), sessions.read_tasks, query, False)
    assert [task.session_id for task in page.data] == ["s0000"] * 10 + ["s0001"] * 10
    assert len(sessions.read) <= READ_AT_ONCE
