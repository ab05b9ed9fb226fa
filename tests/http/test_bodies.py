"""Whatever is sent, it is either the value or an error that names what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentd.errors import Invalid, Malformed
from agentd.http import bodies, queries
from agentd.http.routes import ROUTES
from agentd.http.shorthands import ShellTask
from agentd.model.requests import NewTask, SessionPatch, SessionQuery, TaskQuery

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.dictionaries(
    st.sampled_from([*NewTask.__struct_fields__, "nmae", "titel", "policy", "x"]), JSON, max_size=6
)


@given(FIELDS, st.sampled_from([NewTask, ShellTask, SessionPatch]))
@example({"policy": {"max_paralel": 1, "retention": {"tasks": 5}}}, SessionPatch)
def test_any_object_is_taken_or_explained(fields: dict[str, Any], shape: type[Any]) -> None:
    text = json.dumps(fields).encode()
    try:
        value = bodies.decoded(text, shape)
    except Invalid as error:
        assert error.errors
        assert {each.field.split(".")[0].split("[")[0] for each in error.errors} <= {*fields, "spec"}
    else:
        assert isinstance(value, shape)
        assert fields.keys() <= set(shape.__struct_fields__)


@given(st.binary(max_size=64))
def test_any_bytes_are_taken_or_explained(text: bytes) -> None:
    with pytest.raises((Malformed, Invalid)):
        bodies.decoded(text, NewTask)  # `spec` is required: random bytes never hold it


@given(st.text(max_size=40))
@example("limit=1&limit=%00")
@example("a&b=&=c&&&")
def test_any_query_is_taken_or_explained(query: str) -> None:
    for shape in (TaskQuery, SessionQuery, queries.NoQuery):
        try:
            assert isinstance(queries.decoded(query, shape), shape)
        except Malformed as error:
            assert error.detail


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("trigger=cron", "must be any of manual, schedule, api, webhook, retry, workflow"),
        ("state=done&state=queued", "must be any of waiting, queued, running, completed, failed, timeout, cancelled"),
    ],
)
def test_a_value_outside_a_closed_set_is_answered_by_the_set(query: str, message: str) -> None:
    with pytest.raises(Malformed) as caught:
        queries.decoded(query, TaskQuery)
    assert [each.message for each in caught.value.errors] == [message]


def test_each_level_of_a_body_names_its_own_fields() -> None:
    with pytest.raises(Invalid) as caught:
        bodies.decoded(b'{"policy": {"max_paralel": 1, "pinned": "yes"}, "titel": "x"}', SessionPatch)
    named = dict(caught.value.errors)
    assert named.keys() == {"policy.max_paralel", "policy.pinned", "titel"}
    assert named["policy.max_paralel"] == "is not known; did you mean 'max_parallel'?"


def test_a_body_of_too_many_parts_is_refused() -> None:
    with pytest.raises(Malformed, match="20000"):
        bodies.decoded(b'{"spec": {"x": [' + b",".join([b"[]"] * 20_001) + b"]}}", NewTask)


def test_brackets_in_text_are_no_nesting() -> None:
    assert bodies.decoded(json.dumps({"spec": {"stdin": "[" * 5000}}).encode(), NewTask).spec["stdin"] == "[" * 5000


def test_every_query_of_the_api_has_defaults_for_all_it_takes() -> None:
    for route in ROUTES:
        assert isinstance(queries.decoded("", route.query), route.query)


def test_a_word_that_is_none_of_those_to_choose_from_is_answered_by_them() -> None:
    with pytest.raises(Invalid) as caught:
        bodies.decoded(b'{"spec": {}, "on_interrupt": "ignore", "retry": {"on": ["never"]}}', NewTask)
    named = dict(caught.value.errors)
    assert named["on_interrupt"] == "must be one of fail, retry, not 'ignore'"
    assert named["retry.on[0]"].startswith("must be one of ok, exit_code, signal")
