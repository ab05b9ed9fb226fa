"""Sums over tasks: they count everything once, and take whatever an agent sends."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from webui.analysis import MAX_NAMES, OTHER, SLOWEST, Spread, Sums, TaskFacts, TaskPage, spread, states_in_order

DAYS = ["2030-01-01", "2030-01-02"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
STATES = ["completed", "failed", "timeout", "cancelled", "running", "queued", "waiting", "evicted"]


def facts(**fields: Any) -> TaskFacts:
    return msgspec.json.decode(json.dumps(fields), type=TaskFacts)


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "state": st.sampled_from(STATES) | ANYTHING,
                "created_at": st.sampled_from([*DAYS, "2031-01-01"]).map(lambda day: f"{day}T10:00:00Z"),
            },
            optional=dict.fromkeys(("kind", "cause", "spec", "name", "session_id", "ended_at"), ANYTHING)
            | {"duration_s": st.floats(0, 1e6) | ANYTHING},
        ),
        max_size=30,
    )
)
def test_every_task_is_counted_once_whatever_it_is_like(tasks: list[dict[str, Any]]) -> None:
    page = msgspec.json.decode(json.dumps({"data": tasks, "next": None}).replace("Infinity", "1"), type=TaskPage)
    sums = Sums(DAYS)
    sums.add("one", page.data)
    found = sums.figures()
    assert found["overall"]["tasks"] == len(tasks) == sum(found["overall"]["counts"].values())
    assert sum(day["tasks"] for day in found["by_day"]) + found["other_days"] == len(tasks)
    assert sum(kind["tasks"] for kind in found["by_kind"]) == len(tasks)
    assert sum(cause["tasks"] for cause in found["by_cause"]) == sum(task.ended for task in page.data)
    assert len(found["slowest"]) <= SLOWEST
    rate = found["overall"]["success_rate"]
    assert rate is None or 0 <= rate <= 1
    json.dumps(found)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=50))
def test_percentiles_are_values_that_so_many_do_not_exceed(values: list[float]) -> None:
    found = spread(values)
    assert found.p50_s in values
    assert found.p95_s in values
    for part, limit in ((0.5, found.p50_s), (0.95, found.p95_s)):
        assert limit is not None
        assert sum(value <= limit for value in values) >= part * len(values)
        assert sum(value < limit for value in values) < part * len(values)


def test_of_nothing_there_are_no_percentiles() -> None:
    assert spread([]) == Spread(None, None)


def test_cancelled_tasks_are_no_failures_and_active_ones_have_not_ended() -> None:
    sums = Sums(DAYS)
    sums.add(
        "one", [facts(state=state, created_at=DAYS[0]) for state in ("completed", "failed", "cancelled", "running")]
    )
    assert sums.figures()["overall"]["success_rate"] == 0.5


def test_a_state_that_nobody_knows_has_ended_when_it_has_an_end() -> None:
    assert facts(state="evicted", ended_at="2030-01-01T10:00:00Z").ended
    assert not facts(state="paused", ended_at=None).ended


def test_how_long_an_active_task_ran_so_far_is_not_how_long_it_took() -> None:
    assert facts(state="running", duration_s=5).took_s is None
    assert facts(state="failed", duration_s=5).took_s == 5
    assert facts(state="failed", duration_s=True).took_s is None
    assert facts(state="failed", duration_s=-1).took_s is None


def test_the_slowest_of_all_agents_are_named() -> None:
    sums = Sums(DAYS)
    for agent in ("one", "two"):
        sums.add(
            agent,
            [
                facts(task_id=f"{agent}-{number}", state="completed", duration_s=number, spec={"command": "make"})
                for number in range(SLOWEST)
            ],
        )
    found = sums.figures()["slowest"]
    assert [row["duration_s"] for row in found] == sorted((row["duration_s"] for row in found), reverse=True)
    assert {(row["agent"], row["task_id"], row["what"]) for row in found[:2]} == {
        ("one", "one-9", "make"),
        ("two", "two-9", "make"),
    }


def test_names_without_an_end_are_counted_together() -> None:
    sums = Sums(DAYS)
    tasks = [
        facts(state=f"s{number}", kind=f"k{number}", cause={"code": f"c{number}"}, ended_at=1) for number in range(100)
    ]
    sums.add("one", tasks)
    found = sums.figures()
    assert len(found["by_kind"]) == len(found["by_cause"]) == len(found["overall"]["counts"]) == MAX_NAMES + 1
    assert found["by_kind"][0] == {"kind": OTHER, **found["by_kind"][0]}
    assert found["by_kind"][0]["tasks"] == 100 - MAX_NAMES


def test_states_are_drawn_in_one_order_and_unknown_ones_last() -> None:
    given_states = ["zebra", "running", "failed", "completed", "ape"]
    assert states_in_order(given_states) == ["completed", "failed", "running", "ape", "zebra"]
