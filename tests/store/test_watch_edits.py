from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.errors import Invalid
from agentd.model.session import Keep, Policy, Retention, Session, SessionChanges
from agentd.store.edits import edited
from agentd.store.views import metadata_fields

SESSION = Session(
    session_id="s",
    title="A title",
    labels={"team": "one"},
    policy=Policy(max_parallel=2, tasks_kept=50, retention=Retention(tasks=Keep(max_count=5))),
    owner="me",
    created_at="2026-01-01T00:00:00.000000Z",
    updated_at="2026-01-02T00:00:00.000000Z",
    seq=7,
)


def text(**changes: Any) -> bytes:
    return msgspec.json.encode({**metadata_fields(SESSION), **changes})


def without(name: str) -> bytes:
    fields = msgspec.json.decode(text())
    del fields[name]
    return msgspec.json.encode(fields)


def refused(content: bytes) -> str:
    with pytest.raises(Invalid) as caught:
        edited(SESSION, content)
    return caught.value.detail


def test_the_text_as_it_was_is_no_edit() -> None:
    assert edited(SESSION, text()) is None
    assert edited(SESSION, msgspec.json.format(text(), indent=4)) is None


def test_what_may_be_edited_is_taken_over() -> None:
    assert edited(SESSION, text(title="New")) == SessionChanges(title="New")
    assert edited(SESSION, text(title=None)) == SessionChanges(title=None)
    assert edited(SESSION, text(labels={})) == SessionChanges(labels={})
    assert edited(SESSION, text(archived=True)) == SessionChanges(archived=True)


def test_a_policy_keeps_what_is_left_out() -> None:
    changed = msgspec.structs.replace(SESSION.policy, max_parallel=5)
    assert edited(SESSION, text(policy={"max_parallel": 5})) == SessionChanges(policy=changed)
    assert edited(SESSION, text(policy={"max_parallel": 2})) is None
    none = msgspec.structs.replace(SESSION.policy, retention=None)
    assert edited(SESSION, text(policy={"retention": None})) == SessionChanges(policy=none)


def test_an_editable_field_that_is_left_out_stays() -> None:
    for name in ("title", "labels", "policy", "archived"):
        assert edited(SESSION, without(name)) is None


def test_an_editor_that_was_opened_earlier_is_no_edit_of_time_and_seq() -> None:
    assert edited(SESSION, text(seq=3, updated_at="2026-01-01T12:00:00.000000Z")) is None
    assert "seq: cannot be edited; put 7 back" in refused(text(seq=8))
    assert "updated_at" in refused(text(updated_at="2026-01-03T00:00:00.000000Z"))
    assert "seq" in refused(text(seq="7"))


@pytest.mark.parametrize("name", ["format", "session_id", "owner", "conversations", "created_at"])
def test_a_field_that_is_fixed_may_be_neither_changed_nor_left_out(name: str) -> None:
    assert f"{name}: cannot be edited" in refused(text(**{name: "other"}))
    assert f"{name}: is missing" in refused(without(name))


def test_a_number_is_not_a_truth_value() -> None:
    assert "format" in refused(text(format=True))
    assert "archived" in refused(text(archived=1))


def test_an_unknown_field_is_refused_with_the_near_one() -> None:
    assert "tittle: is not a field of metadata.json; did you mean title?" in refused(text(tittle="x"))
    assert "did you mean max_parallel?" in refused(text(policy={"max_paralel": 1}))
    keep = {"retention": {"tasks": {"max_cuont": 1}}}
    assert "policy.retention.tasks.max_cuont" in refused(text(policy=keep))
    assert "did you mean max_count?" in refused(text(policy=keep))
    assert refused(text(zzzzzz=1)) == "zzzzzz: is not a field of metadata.json"


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("title", {"title": ""}),
        ("title", {"title": "x" * 201}),
        ("title", {"title": 5}),
        ("labels", {"labels": {str(n): "" for n in range(65)}}),
        ("labels", {"labels": {"": "x"}}),
        ("labels", {"labels": {"a": 1}}),
        ("policy.max_parallel", {"policy": {"max_parallel": 0}}),
        ("policy.tasks_kept", {"policy": {"tasks_kept": -1}}),
        ("policy.timeout_s", {"policy": {"timeout_s": 0}}),
        ("policy.pinned", {"policy": {"pinned": "yes"}}),
        ("policy.retention.tasks.max_count", {"policy": {"retention": {"tasks": {"max_count": -1}}}}),
        ("policy", {"policy": None}),
        ("archived", {"archived": None}),
    ],
)
def test_values_have_the_limits_of_the_api(field: str, changes: dict[str, Any]) -> None:
    assert refused(text(**changes)).startswith(f"{field}: ")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"a":NaN}', b" " * (1 << 20) + b"{}"]
)
def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    assert refused(content).startswith("metadata.json: ")


def test_every_wrong_field_is_named() -> None:
    with pytest.raises(Invalid) as caught:
        edited(SESSION, text(owner="x", created_at="x", colour="red"))
    assert {error.field for error in caught.value.errors} == {"owner", "created_at", "colour"}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(changes=st.dictionaries(st.sampled_from(["format", "x", *Session.__struct_fields__]), VALUES, max_size=3))
def test_any_json_is_either_an_edit_or_refused(changes: dict[str, Any]) -> None:
    try:
        found = edited(SESSION, text(**changes))
    except Invalid as error:
        assert error.errors
        return
    assert found is None or found != SessionChanges()
