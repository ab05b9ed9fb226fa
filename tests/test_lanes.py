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


def task(
    task_id: str, session_id: str = "s", priority: int = 0, queue: str = "default", parent_id: str | None = None
) -> Task:
    return Task(
        task_id=task_id,
        session_id=session_id,
        kind="shell",
        spec={},
        state=State.QUEUED,
        priority=priority,
        queue=queue,
        parent_id=parent_id,
        created_at="",
        seq=next(_seqs),
    )


def lanes_of(*served: str) -> Lanes:
    return Lanes(served or ("*",), lambda: 1.0)


def started(lanes: Lanes, *, keep_running: bool = False) -> Iterator[str]:
    """What runs, in order; each ends at once unless it is kept running."""
    while (following := lanes.next()) is not None:
        of = task(following.task_id, following.session_id)
        lanes.take(following)
        lanes.run(of, lane.max_parallel if (lane := lanes.of(of)) else 1)
        if not keep_running:
            lanes.drop(of)
        yield following.task_id


def started_with(lanes: Lanes, exclusive: str) -> Iterator[str]:
    """What starts now and goes on; what begins with `exclusive` uses that alone."""
    while (following := lanes.next()) is not None:
        lanes.take(following)
        lanes.run(task(following.task_id), 4, exclusive if following.task_id.startswith(exclusive) else None)
        yield following.task_id


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
    lane = lanes.of(task("any"))
    assert lane is not None
    assert lane.parked == {"slow"}
    lanes.drop(task("slow"))
    assert lanes.of(task("any")) is None


def test_what_a_session_runs_is_told_again_after_it_was_forgotten() -> None:
    lanes = lanes_of()
    for n in range(3):
        lanes.queue(task(f"t{n}"), 1)
    assert list(started(lanes, keep_running=True)) == ["t0"]
    lanes.forget("s")
    lanes.run(task("t0"), 1)
    assert lanes.next() is None
    lanes.queue(task("t1"), 1)
    assert lanes.next() is None
    lanes.drop(task("t0"))
    assert list(started(lanes)) == ["t1"]


def test_what_uses_the_same_alone_takes_turns_and_holds_up_nothing_else() -> None:
    lanes = lanes_of()
    for n in range(3):
        lanes.queue(task(f"x{n}"), 4, "x")
    lanes.queue(task("other", priority=-1), 4)
    assert list(started_with(lanes, "x")) == ["x0", "other"]
    lane = lanes.of(task("any"))
    assert lane is not None
    assert lane.user_of(lane.queued["x1"]) == "x0"
    lanes.drop(task("x1"))
    lanes.drop(task("x0"))
    assert list(started_with(lanes, "x")) == ["x2"]


def test_what_a_task_submitted_runs_beside_it() -> None:
    lanes = lanes_of()
    lanes.queue(task("parent"), 1)
    lanes.queue(task("next"), 1)
    assert list(started(lanes, keep_running=True)) == ["parent"]
    for n in range(2):
        lanes.queue(task(f"child{n}", parent_id="parent"), 1)
    following = lanes.next()
    assert following is not None
    assert (following.parent_id, following.task_id) == ("parent", "child0")
    lanes.take(following)
    lanes.run(task("child0", parent_id="parent"), 1)
    assert lanes.next() is None, "its own are one at a time, too"
    lanes.drop(task("child0", parent_id="parent"))
    assert lanes.turns() == [("s", "parent")]
    lanes.drop(task("child1", parent_id="parent"))
    lanes.drop(task("parent"))
    assert list(started(lanes)) == ["next"]
    assert lanes.of(task("any", parent_id="parent")) is None


def test_what_waits_for_its_sub_task_never_keeps_from_it_what_both_use_alone() -> None:
    lanes = lanes_of()
    above: str | None = None
    for name in ("top", "middle", "bottom"):
        each = task(name, parent_id=above)
        lanes.queue(each, 1, "conversation")
        following = lanes.next()
        assert following is not None and following.task_id == name
        lanes.take(following)
        lanes.run(each, 1, "conversation")
        above = name
    assert lanes.running("s") == ["top", "middle", "bottom"]
    assert lanes.delegating() == 2, "two of them have what they may wait for"
    lanes.drop(task("top"))
    assert lanes.delegating() == 1, "whoever has ended waits for nothing"


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
    assert lanes.next() == ("s", None, "t", 1.0)


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
    lane = lanes.of(task("any"))
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
            n: task(
                f"t{n}",
                "abc"[n % 3],
                priority=n % 2,
                queue="other" if n == 11 else "default",
                parent_id="p" if n in (6, 9) else None,
            )
            for n in range(12)
        }
        self.exclusive = {n: "x" if n in (0, 3, 4, 6, 7, 9) else None for n in range(12)}
        self.queued: list[int] = []
        self.running: set[int] = set()

    @rule(n=ids)
    def queue(self, n: int) -> None:
        if n not in self.queued and n not in self.running:
            self.tell(n)
            self.queued.append(n)

    def tell(self, n: int) -> None:
        self.lanes.queue(self.tasks[n], self.limits[self.tasks[n].session_id], self.exclusive[n])

    def lane(self, n: int) -> tuple[str, str | None]:
        return self.tasks[n].session_id, self.tasks[n].parent_id

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
                self.tell(n)

    @rule(session_id=st.sampled_from("abc"))
    def roll_back(self, session_id: str) -> None:
        mine = [n for n in self.queued if self.tasks[n].session_id == session_id]
        self.lanes.forget(session_id)
        for n in self.running:
            if self.tasks[n].session_id == session_id:
                self.lanes.run(self.tasks[n], self.limits[session_id], self.exclusive[n])
        for n in mine:
            self.tell(n)
            self.queued.remove(n)
            self.queued.append(n)
        self.lanes.limit(session_id, self.limits[session_id])

    @rule()
    def start(self) -> None:
        following = self.lanes.next()
        assert (following is not None) == bool(self.could_run())
        if following is None:
            return
        n = int(following.task_id[1:])
        assert n in self.could_run()
        assert self.lane(n) == (following.session_id, following.parent_id)
        best = max(self.tasks[m].priority for m in self.could_run() if self.lane(m) == self.lane(n))
        assert self.tasks[n].priority == best
        self.lanes.take(following)
        self.lanes.run(self.tasks[n], self.limits[following.session_id], self.exclusive[n])
        self.queued.remove(n)
        self.running.add(n)

    def could_run(self) -> list[int]:
        used = {(self.lane(n), self.exclusive[n]) for n in self.running if self.exclusive[n] is not None}
        return [
            n
            for n in self.queued
            if n != 11
            and sum(self.lane(m) == self.lane(n) for m in self.running) < self.limits[self.tasks[n].session_id]
            and (self.lane(n), self.exclusive[n]) not in used
        ]

    @invariant()
    def the_rotation_has_those_that_could_start(self) -> None:
        if hasattr(self, "lanes"):
            assert set(self.lanes.turns()) == {self.lane(n) for n in self.could_run()}
            busy = {self.lane(n) for n in [*self.queued, *self.running]}
            assert {self.lane(n) for n in self.tasks if self.lanes.of(self.tasks[n])} == busy


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
