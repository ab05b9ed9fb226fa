"""Who runs next: the order within a session, turns between sessions, limits, and nothing that piles up."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agentd.lanes import STALE_IDS, Lanes
from agentd.model.task import State, Task

_seqs = itertools.count(1)


def task(task_id: str, session_id: str = "s", priority: int = 0, queue: str = "default") -> Task:
    return Task(
        task_id=task_id,
        session_id=session_id,
        kind="shell",
        spec={},
        state=State.QUEUED,
        priority=priority,
        queue=queue,
        created_at="",
        seq=next(_seqs),
    )


def lanes_of(*served: str) -> Lanes:
    return Lanes(served or ("*",), lambda: 1.0)


def started(lanes: Lanes, *, keep_running: bool = False) -> Iterator[str]:
    """What runs, in order; each ends at once unless it is kept running."""
    while (following := lanes.next()) is not None:
        session_id, task_id, _ = following
        lanes.take(session_id, task_id)
        lanes.run(task(task_id, session_id), lane.max_parallel if (lane := lanes.of(session_id)) else 1)
        if not keep_running:
            lanes.drop(task(task_id, session_id))
        yield task_id


def test_priority_goes_before_arrival() -> None:
    lanes = lanes_of()
    for n, priority in enumerate([0, 5, 0, -1, 5]):
        lanes.queue(task(f"t{n}", priority=priority), 1)
    assert list(started(lanes)) == ["t1", "t4", "t0", "t2", "t3"]


def test_arrival_is_the_event_that_queued_a_task_in_whatever_order_they_are_told_of() -> None:
    first, second, third = (task(f"t{n}") for n in range(3))
    lanes = lanes_of()
    for each in (third, first, second):
        lanes.queue(each, 1)
    assert list(started(lanes)) == ["t0", "t1", "t2"]


def test_sessions_take_turns() -> None:
    lanes = lanes_of()
    for n in range(4):
        lanes.queue(task(f"a{n}", "a"), 1)
    for session_id in "bc":
        lanes.queue(task(f"{session_id}0", session_id, priority=-9), 1)
    assert list(started(lanes)) == ["a0", "b0", "c0", "a1", "a2", "a3"]


def test_a_session_with_a_wide_limit_does_not_take_more_than_its_turn() -> None:
    lanes = lanes_of()
    for n in range(3):
        lanes.queue(task(f"a{n}", "a"), 100)
    for n in range(3):
        lanes.queue(task(f"b{n}", "b"), 100)
    assert list(started(lanes, keep_running=True)) == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_a_session_runs_as_many_as_it_may() -> None:
    lanes = lanes_of()
    for n in range(5):
        lanes.queue(task(f"t{n}"), 2)
    assert list(started(lanes, keep_running=True)) == ["t0", "t1"]
    lanes.drop(task("t0"))
    assert list(started(lanes, keep_running=True)) == ["t2"]


def test_another_limit_holds_at_once() -> None:
    lanes = lanes_of()
    for n in range(5):
        lanes.queue(task(f"t{n}"), 1)
    assert list(started(lanes, keep_running=True)) == ["t0"]
    lanes.limit("s", 3)
    assert list(started(lanes, keep_running=True)) == ["t1", "t2"]
    lanes.limit("s", 1)
    lanes.drop(task("t0"))
    lanes.drop(task("t1"))
    assert list(started(lanes, keep_running=True)) == []
    lanes.drop(task("t2"))
    assert list(started(lanes, keep_running=True)) == ["t3"]


def test_what_no_worker_serves_is_parked_and_blocks_nobody() -> None:
    lanes = lanes_of("fast")
    lanes.queue(task("slow", queue="slow", priority=9), 1)
    lanes.queue(task("quick", queue="fast"), 1)
    assert list(started(lanes)) == ["quick"]
    lane = lanes.of("s")
    assert lane is not None
    assert lane.parked == {"slow"}
    lanes.drop(task("slow"))
    assert lanes.of("s") is None


def test_a_reset_keeps_what_runs_and_forgets_what_was_queued() -> None:
    lanes = lanes_of()
    for n in range(3):
        lanes.queue(task(f"t{n}"), 1)
    assert list(started(lanes, keep_running=True)) == ["t0"]
    lanes.reset("s", ["t0"])
    assert lanes.next() is None
    lanes.queue(task("t1"), 1)
    assert lanes.next() is None
    lanes.drop(task("t0"))
    assert list(started(lanes)) == ["t1"]


def test_a_reset_of_a_session_that_runs_nothing_leaves_no_lane() -> None:
    lanes = lanes_of()
    lanes.queue(task("t"), 1)
    lanes.reset("s", [])
    assert lanes.of("s") is None
    assert lanes.turns() == []
    assert lanes.next() is None


def test_a_forgotten_session_runs_nothing() -> None:
    lanes = lanes_of()
    lanes.queue(task("t"), 1)
    lanes.forget("s")
    lanes.forget("s")
    assert lanes.next() is None


def test_a_task_keeps_the_time_since_which_it_could_run() -> None:
    now = [1.0]
    lanes = Lanes(["*"], lambda: now[0])
    lanes.queue(task("t"), 1)
    now[0] = 9.0
    lanes.queue(task("t"), 1)
    assert lanes.next() == ("s", "t", 1.0)


@pytest.mark.parametrize("blocked", [True, False])
def test_tasks_that_come_and_go_leave_nothing_behind_a_lane_that_stays(blocked: bool) -> None:
    lanes = lanes_of()
    if blocked:
        lanes.run(task("service"), 1)
    else:
        lanes.queue(task("first", priority=9), 1)
    for n in range(10 * STALE_IDS):
        lanes.queue(task(f"t{n}"), 1)
        lanes.drop(task(f"t{n}"))
    lane = lanes.of("s")
    assert lane is not None
    assert len(lane.heap) <= STALE_IDS + 3


class AnyOrder(RuleBasedStateMachine):
    """Against a model that sorts everything at each step."""

    ids = st.integers(0, 11)

    @initialize()
    def begin(self) -> None:
        self.lanes = lanes_of("default")
        self.limits = dict.fromkeys("abc", 1)
        self.tasks = {
            n: task(f"t{n}", "abc"[n % 3], priority=n % 2, queue="other" if n == 11 else "default") for n in range(12)
        }
        self.queued: list[int] = []
        self.running: set[int] = set()

    @rule(n=ids)
    def queue(self, n: int) -> None:
        if n not in self.queued and n not in self.running:
            self.lanes.queue(self.tasks[n], self.limits[self.tasks[n].session_id])
            self.queued.append(n)

    @rule(n=ids)
    def drop(self, n: int) -> None:
        self.lanes.drop(self.tasks[n])
        self.running.discard(n)
        if n in self.queued:
            self.queued.remove(n)

    @rule(session_id=st.sampled_from("abc"), limit=st.integers(1, 3))
    def limit(self, session_id: str, limit: int) -> None:
        self.lanes.limit(session_id, limit)
        self.limits[session_id] = limit
        for n in [*self.queued, *self.running]:  # as each change of a task says its session's limit again
            if self.tasks[n].session_id == session_id and n in self.queued:
                self.lanes.queue(self.tasks[n], limit)

    @rule(session_id=st.sampled_from("abc"))
    def roll_back(self, session_id: str) -> None:
        mine = [n for n in self.queued if self.tasks[n].session_id == session_id]
        self.lanes.reset(session_id, [f"t{n}" for n in self.running if self.tasks[n].session_id == session_id])
        for n in mine:
            self.lanes.queue(self.tasks[n], self.limits[session_id])
            self.queued.remove(n)
            self.queued.append(n)
        self.lanes.limit(session_id, self.limits[session_id])

    @rule()
    def start(self) -> None:
        following = self.lanes.next()
        assert (following is not None) == bool(self.could_run())
        if following is None:
            return
        session_id, task_id, _ = following
        n = int(task_id[1:])
        assert n in self.could_run()
        assert self.tasks[n].session_id == session_id
        best = max(self.tasks[m].priority for m in self.could_run() if self.tasks[m].session_id == session_id)
        assert self.tasks[n].priority == best
        self.lanes.take(session_id, task_id)
        self.lanes.run(self.tasks[n], self.limits[session_id])
        self.queued.remove(n)
        self.running.add(n)

    def could_run(self) -> list[int]:
        room = {
            session_id: limit - sum(self.tasks[n].session_id == session_id for n in self.running)
            for session_id, limit in self.limits.items()
        }
        return [n for n in self.queued if n != 11 and room[self.tasks[n].session_id] > 0]

    @invariant()
    def the_rotation_has_those_that_could_start(self) -> None:
        if hasattr(self, "lanes"):
            assert set(self.lanes.turns()) == {self.tasks[n].session_id for n in self.could_run()}
            busy = {self.tasks[n].session_id for n in [*self.queued, *self.running]}
            assert {each for each in "abc" if self.lanes.of(each)} == busy


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
