"""Geometry: whatever the values, bars stay in their box and say exactly as much as was counted."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from webui.charts import DURATION_MARKS, duration_scale, labelled, marks, middle, spans, stacked

COUNTS = st.integers(0, 1_000_000)
DURATIONS = st.floats(0, 1e9, allow_subnormal=False)


@given(st.integers(1, 6).flatmap(lambda parts: st.lists(st.lists(COUNTS, min_size=parts, max_size=parts), max_size=90)))
def test_stacked_bars_add_up_to_what_was_counted(columns: list[list[int]]) -> None:
    top = marks(max((sum(column) for column in columns), default=0))[-1]
    bars = stacked(columns, top)
    for column, values in enumerate(columns):
        mine = [bar for bar in bars if bar.column == column]
        assert [bar.part for bar in mine] == [part for part, value in enumerate(values) if value > 0]
        assert math.isclose(sum(bar.height for bar in mine) * top, sum(values), abs_tol=1e-6 * top)
        edge = 1.0
        for bar in mine:
            assert bar.height > 0
            assert math.isclose(bar.y + bar.height, edge, abs_tol=1e-9)
            edge = bar.y
        assert edge >= -1e-9
        assert all(bar.x >= 0 and bar.x + bar.width <= 1 + 1e-9 and bar.width > 0 for bar in mine)


@given(st.floats(0, 1e12))
def test_marks_begin_at_nothing_hold_everything_and_are_few_round_numbers(most: float) -> None:
    found = marks(most)
    assert found[0] == 0
    assert found[-1] >= most
    steps = {after - before for before, after in itertools.pairwise(found)}
    assert len(steps) == 1
    assert str(steps.pop()).rstrip("0") in ("1", "2", "5")
    assert 2 <= len(found) <= 6


@given(st.lists(st.tuples(DURATIONS, DURATIONS).map(sorted).map(tuple), max_size=90))
def test_longer_durations_stand_higher_and_none_leaves_the_box(pairs: list[tuple[float, float]]) -> None:
    scale = duration_scale(value for pair in pairs for value in pair)
    assert len(scale.marks) >= 2
    assert set(scale.marks) <= set(DURATION_MARKS)
    found = spans(pairs, scale)
    assert [span.column for span in found] == list(range(len(pairs)))
    for span, (p50, p95) in zip(found, pairs, strict=True):
        assert 0 <= span.high <= span.low <= 1
        assert (p50 == p95) <= (span.low == span.high)
        assert math.isclose(span.x, middle(span.column, len(pairs)))


def test_a_day_without_durations_has_no_line() -> None:
    assert [span.column for span in spans([None, (1, 2), None], duration_scale([1, 2]))] == [1]


@given(st.integers(1, 400), st.integers(1, 20))
def test_labels_are_few_and_the_last_column_has_one(count: int, most: int) -> None:
    found = list(labelled(count, most))
    assert 1 <= len(found) <= most
    assert found[-1] == count - 1
    assert found[0] >= 0
