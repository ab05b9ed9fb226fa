"""The geometry of timelines: whatever agents answer and whatever their clocks say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from webui.timeline import MAX_LANES, MIN_WIDTH, Timeline, timeline

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def at(seconds: float) -> str:
    return (NOON + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def task(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "task_id": f"t{number}",
        "session_id": "s",
        "spec": {"command": "make"},
        "state": "completed",
        "created_at": at(number),
        "attempts": [],
        "transitions": [],
        **fields,
    }


def drawn(*tasks: dict[str, Any], now: float = 100) -> Timeline:
    found = timeline(tasks, NOON + timedelta(seconds=now))
    assert found is not None
    return found


def test_waiting_and_each_attempt_are_bars_of_their_own() -> None:
    failed = {"code": "exit_code", "message": "exited with code 1"}
    lane = drawn(
        task(
            state="completed",
            ended_at=at(100),
            transitions=[
                {"state": "waiting", "at": at(0)},
                {"state": "queued", "at": at(10)},
                {"state": "running", "at": at(20)},
                {"state": "queued", "at": at(40)},
                {"state": "running", "at": at(60)},
                {"state": "completed", "at": at(100)},
            ],
            attempts=[
                {"n": 1, "started_at": at(20), "ended_at": at(40), "cause": failed},
                {"n": 2, "started_at": at(60), "ended_at": at(100), "cause": {"code": "ok", "message": "done"}},
            ],
        )
    ).lanes[0]
    assert [(bar.state, bar.attempt, bar.x, bar.width) for bar in lane.bars] == [
        ("waiting", None, 0, 10),
        ("queued", None, 10, 10),
        ("failed", 1, 20, 20),
        ("queued", None, 40, 20),
        ("completed", 2, 60, 40),
    ]
    assert lane.bars[2].name == "attempt 1, failed, 20.0 s, from 12:00:20 UTC"


def test_what_runs_goes_on_until_now_and_now_is_marked() -> None:
    found = drawn(task(state="running", attempts=[{"n": 1, "started_at": at(0)}]), now=30)
    assert (found.lanes[0].bars[0].x, found.lanes[0].bars[0].width, found.now) == (0, 100, 100)
    assert drawn(task(ended_at=at(5), attempts=[{"n": 1, "started_at": at(0), "ended_at": at(5)}])).now is None


def test_a_start_in_the_future_and_an_end_before_the_start_are_short_bars() -> None:
    found = drawn(
        task(1, state="running", attempts=[{"n": 1, "started_at": at(10_800)}]),
        task(2, ended_at=at(-50), attempts=[{"n": 1, "started_at": at(0), "ended_at": at(-50)}]),
        task(3, ended_at=at(-50), attempts=[{"n": 1, "started_at": at(0), "ended_at": at(-50), "duration_s": 540}]),
    )
    assert [lane.bars[0].width for lane in found.lanes] == [MIN_WIDTH, MIN_WIDTH, 5.0]


def test_the_axis_has_round_times() -> None:
    found = drawn(task(ended_at=at(100), attempts=[{"n": 1, "started_at": at(-3601), "ended_at": at(3600)}]))
    assert [tick.label for tick in found.ticks] == ["11:00", "12:00", "13:00"]


def test_of_many_tasks_those_that_run_and_the_newest_are_drawn_in_the_order_they_came() -> None:
    run = [{"n": 1, "started_at": at(0), "ended_at": at(1)}]
    old = task(0, task_id="old", state="running", attempts=[{"n": 1, "started_at": at(0)}])
    found = drawn(old, *(task(number, attempts=run, ended_at=at(1)) for number in range(1, 1001)))
    assert len(found.lanes) == MAX_LANES
    assert [lane.task["task_id"] for lane in (found.lanes[0], found.lanes[1], found.lanes[-1])] == [
        "old",
        "t952",
        "t1000",
    ]
    assert found.left_out == 1001 - MAX_LANES


def test_what_ran_is_drawn_before_what_only_waits() -> None:
    ran = task(0, task_id="ran", ended_at=at(1), attempts=[{"n": 1, "started_at": at(0), "ended_at": at(1)}])
    waits = (task(n, state="waiting", transitions=[{"state": "waiting", "at": at(0)}]) for n in range(1, 100))
    assert drawn(ran, *waits).lanes[0].task["task_id"] == "ran"


def test_an_attempt_of_an_unknown_state_is_drawn_as_it_is_called() -> None:
    found = drawn(task(state="paused", attempts=[{"n": 1, "started_at": at(0)}]))
    assert (found.lanes[0].bars[0].state, found.lanes[0].bars[0].tone) == ("paused", "odd")


times = st.one_of(
    st.none(),
    st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat()),
    st.floats(-20_000, 20_000).map(at),
    st.sampled_from(["", "yesterday", "0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00"]),
    st.integers(),
)
states = st.one_of(st.sampled_from(["waiting", "queued", "running", "completed", "failed", "paused"]), st.none())
odd = st.one_of(st.none(), st.text(max_size=3), st.integers(), st.lists(st.integers(), max_size=2))
causes = st.one_of(odd, st.fixed_dictionaries({"code": st.text(max_size=9)}))
attempts = st.fixed_dictionaries(
    {},
    optional={
        "n": st.one_of(st.integers(), odd),
        "started_at": times,
        "ended_at": times,
        "duration_s": st.one_of(st.floats(), odd),
        "cause": causes,
    },
)
transitions = st.fixed_dictionaries({}, optional={"state": states, "at": times})
tasks = st.fixed_dictionaries(
    {"task_id": st.text(max_size=5)},
    optional={
        "state": states,
        "created_at": times,
        "ended_at": times,
        "spec": odd,
        "attempts": st.one_of(odd, st.lists(st.one_of(attempts, odd), max_size=4)),
        "transitions": st.one_of(odd, st.lists(st.one_of(transitions, odd), max_size=4)),
    },
)


@settings(max_examples=300, deadline=None)
@given(st.lists(tasks, max_size=6), st.floats(-20_000, 20_000))
def test_whatever_comes_every_bar_lies_within_the_drawing(rows: list[dict[str, Any]], now: float) -> None:
    found = timeline(rows, NOON + timedelta(seconds=now))
    if found is None:
        return
    for lane in found.lanes:
        for bar in lane.bars:
            assert bar.x >= 0 and bar.width > 0 and bar.x + bar.width <= 100.001
    assert all(0 <= tick.x <= 100 for tick in found.ticks)
    assert found.now is None or 0 <= found.now <= 100
    assert len(found.lanes) + found.left_out == len(rows)
