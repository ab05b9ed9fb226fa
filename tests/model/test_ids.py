"""Ids: their form, and that a task's id says where to look for it. Times: their order."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.clock import epoch, rfc3339
from agentd.errors import Invalid
from agentd.model.ids import (
    ALPHABET,
    TAG_LENGTH,
    check_session_id,
    is_session_id,
    is_task_id,
    new_session_id,
    new_task_id,
    session_id_for_key,
    session_tag,
)

SESSION_IDS = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", fullmatch=True)
MOMENTS = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9999, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC).timestamp()
)


@given(SESSION_IDS)
def test_a_task_id_carries_the_tag_of_its_session(session_id: str) -> None:
    task_id = new_task_id(session_id)
    assert is_task_id(task_id)
    assert task_id[:TAG_LENGTH] == session_tag(session_id) == session_tag(session_id)


@given(SESSION_IDS, st.integers(0, 2**50 - 1), st.integers(0, 2**50 - 1))
def test_task_ids_of_a_session_differ_when_their_random_bits_do(session_id: str, one: int, other: int) -> None:
    ids = {new_task_id(session_id, lambda bits: one), new_task_id(session_id, lambda bits: other)}
    assert len(ids) == len({one, other})


def test_a_tag_never_changes() -> None:
    assert session_tag("build-click") == "f5m2"  # found on disks: another value would lose every task


def test_made_up_ids_do_not_repeat() -> None:
    assert len({new_session_id() for _ in range(1000)} | {new_task_id("s") for _ in range(1000)}) == 2000


@given(st.text(min_size=1))
def test_a_key_always_makes_the_same_valid_session_id(key: str) -> None:
    assert session_id_for_key(key) == session_id_for_key(key)
    assert is_session_id(session_id_for_key(key))


@given(st.text())
def test_a_session_id_is_always_one_plain_directory_name(text: str) -> None:
    if is_session_id(text):
        assert text == text.strip()
        assert text.isascii()
        assert 1 <= len(text) <= 128
        assert not set(text) & set("/\\\0\n ")
        assert not text.startswith(".")


@pytest.mark.parametrize(
    "text", ["", ".", "..", ".hidden", "a/b", "../x", "a\n", "a\0", "a b", "ä", "%2e%2e", "a" * 129, "a\\b"]
)
def test_what_could_be_a_path_or_a_trick_is_no_session_id(text: str) -> None:
    assert not is_session_id(text)
    with pytest.raises(Invalid, match="session_id: must be 1 to 128"):
        check_session_id(text)


@pytest.mark.parametrize("text", ["build-click", "a", "_", "-x", "A.b_c-9", "1" * 128, "a..b"])
def test_a_plain_name_is_a_session_id(text: str) -> None:
    assert check_session_id(text) == text


@pytest.mark.parametrize("text", ["", "0" * 13, "0" * 15, "O" * 14, "i" * 14, "0" * 13 + "\n", "0" * 13 + "-"])
def test_what_has_not_the_form_is_no_task_id(text: str) -> None:
    assert not is_task_id(text)


def test_ids_avoid_the_letters_that_people_misread() -> None:
    assert not set(ALPHABET) & set("ilou")
    assert len(set(ALPHABET)) == 32


@given(MOMENTS, MOMENTS)
def test_times_order_as_their_text_does(one: float, other: float) -> None:
    assert (rfc3339(one) < rfc3339(other)) == (epoch(rfc3339(one)) < epoch(rfc3339(other)))
    assert len(rfc3339(one)) == 27


@given(MOMENTS)
def test_a_time_survives_being_written(moment: float) -> None:
    assert rfc3339(epoch(rfc3339(moment))) == rfc3339(moment)


def test_a_time_without_an_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="has no offset"):
        epoch("2026-01-02T03:04:05")
