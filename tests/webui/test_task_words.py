"""Causes and events in words, and what a screen does not show."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentd.model.events import EVENT_TYPES
from agentd.model.task import CauseCode
from webui.blotting import BLOT, blotted
from webui.causes import explained, need_at_fault
from webui.happenings import happening
from webui.rows import Row, rowed
from webui.words import coded, counted, percent, size, usd, when


def why(code: str, message: str = "", **fields: Any) -> tuple[str, str, str]:
    found = explained({"cause": {"code": code, "message": message, **fields}, "timeout_s": 90})
    assert found is not None
    return found.sentence, found.message, found.remedy


def test_what_stands_between_backticks_is_code_and_nothing_else_is_markup() -> None:
    assert coded("`a<b` or <i> `") == "<code>a&lt;b</code> or &lt;i&gt; `"


def test_figures_are_short_and_none_is_too_large_to_be_told() -> None:
    assert [percent(each) for each in (40.0, 12.54, 0, 100)] == ["40 %", "12.5 %", "0 %", "100 %"]
    assert [usd(each) for each in (0.5, 0.0125, 2, 0)] == ["0.50 USD", "0.0125 USD", "2.00 USD", "0.00 USD"]
    assert counted(125000) == "125,000"
    for figure in (percent, usd, counted, size):
        assert figure(10**400) and figure(-(10**400))


def test_every_cause_has_a_sentence_and_every_bad_end_a_remedy() -> None:
    for code in CauseCode:
        sentence, _, remedy = why(code)
        assert sentence.endswith(".") and sentence != f"{code}.".capitalize()
        assert remedy or code == CauseCode.OK, code


def test_what_ended_it_is_named() -> None:
    assert why("exit_code", "exited with code 3", exit_code=3)[:2] == ("The command exited with code 3.", "")
    assert "PATH" in why("exit_code", exit_code=127)[2]
    assert "SIGTERM" in why("exit_code", exit_code=143)[2]
    assert "SIGSEGV" in why("signal", signal=11)[0]
    assert "1 min 30 s" in why("timeout")[0]


def test_an_unknown_cause_is_shown_as_it_is() -> None:
    assert why("moon_phase", "the moon was full") == ("Moon phase.", "The moon was full.", "")
    found = explained({"cause": "because"})
    assert found is not None and found.sentence == "Because."
    assert explained({}) is None


def test_the_need_for_which_a_task_failed_is_found() -> None:
    cause = {"code": "dependency_failed", "message": "needs bbb, which ended failed"}
    assert need_at_fault({"cause": cause, "needs": ["aaa", "bbb"]}) == "bbb"
    assert need_at_fault({"cause": {"code": "ok"}, "needs": ["aaa"]}) is None


def test_values_of_secret_looking_names_are_blotted_at_any_depth() -> None:
    given = {"API_KEY": "x", "env": {"GITHUB_TOKEN": "y", "PATH": "/bin"}, "list": [{"password": "z"}], "monkey": "m"}
    assert blotted(given) == {
        "API_KEY": BLOT,
        "env": {"GITHUB_TOKEN": BLOT, "PATH": "/bin"},
        "list": [{"password": BLOT}],
        "monkey": "m",
    }


def test_every_type_of_event_is_told_in_words() -> None:
    for kind in EVENT_TYPES:
        found = happening(Row({"type": kind, "seq": 1}))
        assert found.words != kind and not found.rest, kind


def test_an_event_of_an_unknown_type_is_shown_with_all_it_holds() -> None:
    found = happening(rowed({"type": "task.dreamt", "seq": 7, "task_id": "t", "of": "sheep", "crc": "0"}))
    assert (found.task_id, found.words, found.rest) == ("t", "task.dreamt", {"of": "sheep"})


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00", "soon", "", "12"])
def test_a_time_that_is_none_is_shown_as_it_is(text: str) -> None:
    assert str(when(text, datetime.now(UTC))) == text


odd = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=4), inner, max_size=2)),
    max_leaves=4,
)
names = st.sampled_from(
    [
        "state",
        "cause",
        "end",
        "progress",
        "items_processed",
        "changes",
        "tasks",
        "bytes",
        "wait_s",
        "exit_code",
        "signal",
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(EVENT_TYPES)), st.dictionaries(names, odd))
def test_fields_of_other_types_are_told_as_they_are(kind: str, fields: dict[str, Any]) -> None:
    assert happening(rowed({**fields, "type": kind, "seq": 1})).words
    explained(fields)
    explained({"cause": fields})
