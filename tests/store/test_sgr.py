"""Colours in force, as a terminal folds them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.store import sgr


def of(text: bytes) -> str:
    return sgr.after(sgr.PLAIN, text).sgr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", ""),
        (b"no colours \x1b[2K\x1b]0;title\x07", ""),
        (b"\x1b[31m", "31"),
        (b"\x1b[1m\x1b[31mred", "1;31"),
        (b"\x1b[31;42m\x1b[33m", "42;33"),
        (b"\x1b[1;31m\x1b[0m", ""),
        (b"\x1b[1;31m\x1b[m\x1b[4m", "4"),
        (b"\x1b[1;0;32m", "32"),
        (b"\x1b[1;2;31m\x1b[22m", "31"),
        (b"\x1b[31;44m\x1b[39m", "44"),
        (b"\x1b[91;104m\x1b[49m", "91"),
        (b"\x1b[38;5;208m", "38;5;208"),
        (b"\x1b[38;2;1;2;3;1m", "38;2;1;2;3;1"),
        (b"\x1b[38:2::1:2:3m", "38:2::1:2:3"),
        (b"\x1b[4:3m", "4:3"),
        (b"\x1b[4:3m\x1b[4:0m", ""),
        (b"\x1b[38m\x1b[38;7;1m", "1"),
        (b"\x1b[;m\x1b[99m\x1b[?25l", ""),
        (b"\x1b[" + b"1" * 65 + b"m", ""),
    ],
)
def test_what_is_in_force_is_what_a_terminal_would_show(text: bytes, expected: str) -> None:
    assert of(text) == expected


def test_what_is_kept_is_bounded() -> None:
    text = of(b"\x1b[38:2:::::::::::::::::::::::::::::::::::::::::::1m\x1b[48;2;255;255;255m\x1b[1;3;4;7;9m")
    assert text == "48;2;255;255;255;1;3;4;7;9"


_TEXT = st.lists(
    st.sampled_from(
        [b"x", b"\n", b"\x1b", b"[", b"m", b"0", b"1", b"31", b"39", b"38;5;9", b";", b"\x1b[0m", b"\x1b[44m"]
    ),
    max_size=40,
).map(b"".join)


@given(_TEXT, _TEXT)
def test_a_text_folds_alike_whole_and_in_parts(first: bytes, second: bytes) -> None:
    assert sgr.after(sgr.after(sgr.PLAIN, first), second) == sgr.after(sgr.PLAIN, first + second)
