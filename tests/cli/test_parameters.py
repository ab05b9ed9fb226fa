"""Durations, times and labels as they are typed."""

from __future__ import annotations

import time

import click
import pytest

from agentd.cli.parameters import AGO, AHEAD, DURATION, LABEL
from agentd.clock import epoch


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), ("200ms", 0.2), ("10s", 10), ("5m", 300), ("2h", 7200), ("7d", 604_800)],
)
def test_a_duration_is_a_number_of_seconds_or_has_a_unit(text: str, seconds: float) -> None:
    assert DURATION.convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "-5", "5 parsecs", "1h30", "inf", "nan"])
def test_a_bad_duration_says_what_is_right(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 90, 10s, 5m, 2h or 7d"):
        DURATION.convert(text, None, None)


def test_a_time_is_absolute_or_from_now() -> None:
    began = time.time()
    assert AGO.convert("2026-01-31T13:00:00+01:00", None, None) == "2026-01-31T12:00:00.000000Z"
    for given, ahead in ((AGO.convert("1h", None, None), -3600), (AHEAD.convert("10m", None, None), 600)):
        assert began <= epoch(given) - ahead + 1e-5
        assert epoch(given) - ahead <= time.time() + 1e-5
    with pytest.raises(click.BadParameter, match="neither"):
        AGO.convert("2026-01-31T13:00:00", None, None)


@pytest.mark.parametrize("text", ["9999999d", "9" * 400 + "s", "9999-12-31T23:59:59-14:00"])
def test_a_time_beyond_the_calendar_is_refused(text: str) -> None:
    for moment in (AGO, AHEAD):
        with pytest.raises(click.BadParameter, match="outside the calendar"):
            moment.convert(text, None, None)


def test_a_label_has_a_key_and_a_value() -> None:
    assert LABEL.convert("a=b=c", None, None) == ("a", "b=c")
    for bad in ("a", "=b"):
        with pytest.raises(click.BadParameter, match="is not key=value"):
            LABEL.convert(bad, None, None)
