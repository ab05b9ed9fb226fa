"""The file by which a step hands values on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.workflows.outputs import MAX_BYTES, MAX_COMPLAINTS, MAX_NAMES, Outputs, read_outputs

NAMES = ("a", "b-c", "_d")


def test_lines_and_blocks_are_read() -> None:
    raw = b"a=1=2\n\nb-c<<END\nfirst\n\n a=3\nEND\n_d=\r\na=last"
    assert read_outputs(raw, NAMES) == Outputs(values={"a": "last", "b-c": "first\n\n a=3", "_d": ""})


def test_whichever_comes_first_of_equals_and_arrows_counts() -> None:
    assert read_outputs(b"a=x<<y\nb-c<<=\n1\n=\n", NAMES).values == {"a": "x<<y", "b-c": "1"}


def test_an_empty_file_hands_nothing_on() -> None:
    assert read_outputs(b"", NAMES) == Outputs()
    assert read_outputs(b"a<<E\nE", NAMES).values == {"a": ""}


REFUSED = {
    b"x=1": "line 1: x is not among the outputs of the step (a, b-c, _d)",
    b"a=1\nnonsense": "line 2: nonsense is neither",
    b"1a=1": "'1a' is no name",
    b"=1": "'' is no name",
    b"a=\0": "NUL",
    b"a<<END\nmore": "no line END ends this value",
    b"a<<\nmore\n": "a word must follow <<",
    b"a=\xff": "not UTF-8 from byte 3",
    b"a=" + b"x" * MAX_BYTES: "larger than 64 KiB",
}


@pytest.mark.parametrize("raw", REFUSED, ids=range(len(REFUSED)))
def test_what_is_refused_is_said_and_left_out(raw: bytes) -> None:
    found = read_outputs(raw, NAMES)
    assert REFUSED[raw] in found.refused[0]
    assert found.values == ({"a": "1"} if raw.startswith(b"a=1") else {})


def test_names_and_complaints_are_bounded() -> None:
    names = [f"n{n}" for n in range(MAX_NAMES + 1)]
    found = read_outputs("".join(f"{name}=1\n" for name in [*names, names[0]]).encode(), names)
    assert list(found.values) == names[:-1]
    assert len(found.refused) == 1
    found = read_outputs(b"x=1\n" * 1000, NAMES)
    assert len(found.refused) == MAX_COMPLAINTS + 1
    assert found.refused[-1] == "and 980 more"


def test_a_file_of_blocks_without_end_is_read_once() -> None:
    assert len(read_outputs(b"a<<E\n" * 10_000, NAMES).refused) == 1


@given(st.binary() | st.text("ab<=E\n\r\0_-", max_size=200).map(str.encode))
def test_whatever_the_file_holds_only_declared_names_come_of_it(raw: bytes) -> None:
    found = read_outputs(raw, NAMES)
    assert set(found.values) <= set(NAMES)
    assert all("\0" not in value for value in found.values.values())


@given(st.dictionaries(st.sampled_from(NAMES), st.text().filter(lambda text: "\0" not in text and "\r" not in text)))
def test_what_is_written_as_blocks_comes_back(values: dict[str, str]) -> None:
    end = "E" * (max(map(len, values.values()), default=0) + 1)
    raw = "".join(f"{name}<<{end}\n{value}\n{end}\n" for name, value in values.items())
    assert read_outputs(raw.encode(), NAMES) == Outputs(values=values)
