"""Forms out of JSON Schema: what is shown means what was meant, there and back again."""

from __future__ import annotations

from typing import Any

import pytest

from webui.schema_form import MAX_FIELDS, Form, fields_of
from webui.typed import Typed, owner_of, typed_in, typed_of, values_of

STRINGS = {"type": "array", "items": {"type": "string"}}
MAPPING = {"type": "object", "additionalProperties": {"type": "string"}}
NULL = {"type": "null"}


def form_of(schema: Any, **document: Any) -> Form:
    return fields_of({"properties": {"x": schema}}, document)[0].form


@pytest.mark.parametrize(
    ("schema", "form"),
    [
        ({"type": "string"}, Form.LINE),
        ({"type": "string", "maxLength": 5000}, Form.TEXT),
        ({"type": ["string", "null"]}, Form.LINE),
        ({"anyOf": [{"type": "string"}, NULL]}, Form.LINE),
        ({"oneOf": [{"$ref": "#/s/Name"}, NULL]}, Form.LINE),
        ({"allOf": [{"$ref": "#/s/Name"}], "description": "d"}, Form.LINE),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, Form.JSON),
        ({"type": ["string", "integer"]}, Form.JSON),
        ({"type": "integer"}, Form.NUMBER),
        ({"type": "boolean"}, Form.CHECK),
        ({"anyOf": [{"type": "boolean"}, NULL]}, Form.CHOICE),
        ({"enum": ["a", "b"]}, Form.CHOICE),
        ({"const": "a"}, Form.CHOICE),
        (STRINGS, Form.LINES),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, Form.LINES),
        ({"type": "array", "items": {"type": "integer"}}, Form.JSON),
        ({"type": "array"}, Form.JSON),
        (MAPPING, Form.MAP),
        ({"type": "object"}, Form.JSON),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, Form.JSON),
        ({"type": "object", "properties": {"y": {}}}, Form.GROUP),
        ({"type": "object", "properties": {"y": {}}, "oneOf": [{"required": ["y"]}, {"required": ["z"]}]}, Form.GROUP),
        ({"$ref": "#/s/Loop"}, Form.JSON),
        ({"$ref": "https://elsewhere.example/schema"}, Form.JSON),
        ({"$ref": 5}, Form.JSON),
        ("nonsense", Form.JSON),
        (True, Form.JSON),
        ({}, Form.JSON),
    ],
)
def test_each_schema_has_its_form(schema: Any, form: Form) -> None:
    assert form_of(schema, s={"Name": {"type": "string"}, "Loop": {"$ref": "#/s/Loop"}}) is form


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "a line"),
        ({"type": "string"}, "two\nlines"),
        ({"type": "string"}, ""),
        ({"type": "string"}, " spaces "),
        ({"type": "string", "maxLength": 5000}, "\n\nfirst lines are empty\r"),
        ({"type": "integer"}, -7),
        ({"type": "integer"}, 10**29),
        ({"type": "number"}, 0.1),
        ({"type": "number"}, 1e300),
        ({"type": "string"}, 5),
        ({"enum": ["a", 1, None, True]}, 1),
        ({"enum": ["1", 1]}, 1),
        ({"type": "boolean"}, True),
        ({"type": "boolean", "default": True}, False),
        ({"anyOf": [{"type": "boolean"}, NULL]}, False),
        (STRINGS, ["a", " b ", "-"]),
        (STRINGS, ["a\nb", "c"]),
        (STRINGS, ["a", ""]),
        (STRINGS, []),
        (STRINGS, [1, None]),
        (MAPPING, {"A": "1", "B": "x=y", "C": ""}),
        (MAPPING, {"A": "1\n2"}),
        (MAPPING, {"A=B": "1"}),
        (MAPPING, {" A": "1"}),
        (MAPPING, {"A": 1}),
        ({}, {"deep": [1, {"er": None}], "ünï": "x"}),
        ({"type": "object", "properties": {"a": {"type": "string"}, "b": STRINGS}}, {"a": "x", "b": ["y"]}),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, {"a": "x", "unknown": [1]}),
    ],
)
def test_a_value_that_is_shown_comes_back_as_it_was(schema: Any, value: Any) -> None:
    fields = fields_of({"properties": {"x": schema}}, {})
    typed = typed_of(fields, {"x": value})
    sent = {f"field:{name}": text.replace("\n", "\r\n") for name, text in typed.texts.items()}
    back = typed_in([*sent.items(), *((f"json:{name}", "1") for name in typed.as_json)])
    found, errors = values_of(fields, back)
    assert errors == {}
    assert found == {"x": value}
    assert type(found["x"]) is type(value)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "integer"}, "1_000"),
        ({"type": "integer"}, "\u0663"),
        ({"type": "integer"}, "9" * 5000),
        ({"type": "number"}, "nan"),
        ({"type": "number"}, "1e999"),
        ({}, "[" * 100_000),
        ({}, "\ud800"),
        ({"enum": ["a"]}, "b"),
        (MAPPING, "A=1\n=2"),
    ],
)
def test_what_is_no_value_is_an_error_of_its_field(schema: Any, text: str) -> None:
    fields = fields_of({"properties": {"x": schema}}, {})
    found, errors = values_of(fields, Typed(texts={"x": text}))
    assert found == {}
    assert list(errors) == ["x"]


def test_a_group_that_is_left_empty_is_absent_and_one_that_is_begun_is_checked() -> None:
    inner = {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}
    fields = fields_of({"properties": {"g": inner}}, {})
    assert values_of(fields, Typed()) == ({}, {})
    assert values_of(fields, Typed(texts={"g.b": "1"})) == ({"g": {"b": 1}}, {"g.a": "is required"})
    assert values_of(fields, Typed(texts={"g.b": "x"}))[1] == {"g.b": "must be a whole number"}


def test_an_error_of_an_agent_finds_the_field_it_is_about() -> None:
    fields = fields_of({"properties": {"s": {"type": "object", "properties": {"env": MAPPING, "e": {}}}}}, {})
    assert owner_of(fields, "s.env.HOME") == "s.env"
    assert owner_of(fields, "s.env[0]") == "s.env"
    assert owner_of(fields, "s.envy") == "s"
    assert owner_of(fields, "other") is None


def test_schemas_that_go_round_in_circles_or_are_huge_end_in_json() -> None:
    loop = {"type": "object", "properties": {"again": {"$ref": "#/loop"}}}
    [field] = fields_of({"properties": {"x": {"$ref": "#/loop"}}}, {"loop": loop})
    depth = 0
    while field.inner:
        [field] = field.inner
        depth += 1
    assert (field.form, depth) == (Form.JSON, 4)
    huge = {"type": "object", "properties": {f"f{n}": {} for n in range(MAX_FIELDS + 1)}}
    assert fields_of({"properties": {"x": huge}}, {})[0].form is Form.JSON
