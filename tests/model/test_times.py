"""Times as text: what the datetime of the standard library says, to the microsecond, sooner."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.clock import epoch, rfc3339


@given(st.floats(min_value=-62_135_596_800, max_value=253_402_300_799) | st.integers(0, 4_000_000_000))
@pytest.mark.filterwarnings("error")
def test_a_time_is_written_as_datetime_writes_it(seconds: float) -> None:
    wanted = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert rfc3339(seconds) == wanted
    assert abs(epoch(wanted) - seconds) < 0.0001


@pytest.mark.parametrize("seconds", [0.9999996, 1.9999995, -0.0000004, -0.5, 1e9 + 0.0000005])
def test_a_part_that_rounds_to_a_whole_second_is_carried(seconds: float) -> None:
    wanted = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert rfc3339(seconds) == wanted
