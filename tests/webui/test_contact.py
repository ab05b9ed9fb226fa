"""What is made of clocks and errors of agents."""

from __future__ import annotations

from email.utils import formatdate

import aiohttp
import pytest

from webui.contact import REASONS, Status, Trouble, skew_ms, trouble_of

NOON = 1_767_268_800.0


@pytest.mark.parametrize(
    ("off_s", "skew"), [(0, 0), (-10_800, -10_799_500), (10_800, 10_799_400), (1, 400), (-1, -500)]
)
def test_a_clock_is_off_by_what_neither_the_way_nor_whole_seconds_explain(off_s: int, skew: int) -> None:
    assert skew_ms(formatdate(NOON + off_s, usegmt=True), NOON + 0.5, NOON + 0.6) == skew


@pytest.mark.parametrize("date", [None, "", "tomorrow", "Thu, 99 Jan 2026 00:00:00 GMT", "\x00"])
def test_a_date_that_is_none_says_nothing_of_the_clock(date: str | None) -> None:
    assert skew_ms(date, NOON, NOON) is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (aiohttp.ServerDisconnectedError(), "closed"),
        (aiohttp.ClientPayloadError(), "closed"),
        (ConnectionResetError(), "closed"),
        (aiohttp.SocketTimeoutError(), "read_timeout"),
        (aiohttp.ConnectionTimeoutError(), "connect_timeout"),
        (aiohttp.InvalidURL("x"), "refused"),
    ],
)
def test_every_error_of_a_connection_has_its_reason(error: Exception, code: str) -> None:
    trouble = trouble_of(error)
    assert (trouble.status, trouble.code) == (Status.UNREACHABLE, code)
    assert trouble.detail
    assert code in REASONS


def test_trouble_stays_what_it_is_and_errors_of_our_own_pass() -> None:
    trouble = Trouble(Status.INCOMPATIBLE, "redirect")
    assert trouble_of(trouble) is trouble
    with pytest.raises(KeyError):
        trouble_of(KeyError("ours"))
