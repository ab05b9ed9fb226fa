"""What people typed into the fields of a form, and the values that it means: there and back again, nothing lost."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from agentd.client import UNREADABLE
from webui.schema_form import Field, Form, choice_text

#: Names of inputs: the text of a field; that this text is JSON, since no better form can hold the value.
FIELD = "field:"
AS_JSON = "json:"

_INTEGER = re.compile(r"[+-]?[0-9]{1,30}")


class Typed(msgspec.Struct, kw_only=True):
    """The texts of a form by the names of its fields, and which of them are JSON whatever the field's form."""

    texts: dict[str, str] = {}
    as_json: set[str] = set()


class Wrong(Exception):
    """A text is none of its field's; the message says what it must be."""


def typed_in(form: Iterable[tuple[str, object]]) -> Typed:
    """What a posted form has for fields. Browsers send CR LF for each line break (HTML, form submission)."""
    typed = Typed()
    for name, value in form:
        if name.startswith(FIELD) and isinstance(value, str):
            typed.texts[name.removeprefix(FIELD)] = value.replace("\r\n", "\n")
        elif name.startswith(AS_JSON):
            typed.as_json.add(name.removeprefix(AS_JSON))
    return typed


def values_of(fields: Sequence[Field], typed: Typed) -> tuple[dict[str, Any], dict[str, str]]:
    """The values that were typed, those left empty left out; and what is wrong, by field."""
    errors: dict[str, str] = {}
    found = {field.key: _value(field, typed, errors) for field in fields}
    return {key: value for key, value in found.items() if value is not UNSET}, errors


def pairs_of(text: str) -> tuple[dict[str, str], str | None]:
    """KEY=VALUE, one a line; and what is wrong with the first that is none."""
    try:
        return dict(_pair(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()), None
    except Wrong as error:
        return {}, str(error)


def typed_of(fields: Sequence[Field], values: Mapping[str, Any]) -> Typed:
    """What one would have to type for these values."""
    typed = Typed()
    for field in fields:
        _type(field, values.get(field.key, UNSET), typed)
    return typed


def owner_of(fields: Sequence[Field], path: str) -> str | None:
    """The field that an agent's error is about: `spec.env.HOME` and `spec.env[1]` are those of `spec.env`."""
    for field in fields:
        if path == field.name or path.startswith((f"{field.name}.", f"{field.name}[")):
            return owner_of(field.inner, path) or field.name
    return None


def _value(field: Field, typed: Typed, errors: dict[str, str]) -> Any:
    if field.form is Form.GROUP and field.name not in typed.as_json:
        inner, wrong = values_of(field.inner, typed)
        asked = bool(inner) or field.required
        # what a group needs is needed only once there is a group
        errors.update(wrong if asked else {name: each for name, each in wrong.items() if typed.texts.get(name)})
        return inner if asked else UNSET
    text = typed.texts.get(field.name, "")
    if field.form is Form.CHECK and field.name not in typed.as_json:
        checked = bool(text)
        return checked if field.required or checked is not (field.default is True) else UNSET
    if not text or (field.form not in (Form.LINE, Form.TEXT) and not text.strip()):
        if field.required:
            errors[field.name] = "is required"
        return UNSET
    try:
        return _parsed(Form.JSON if field.name in typed.as_json else field.form, field, text)
    except Wrong as error:
        errors[field.name] = str(error)
        return UNSET


def _parsed(form: Form, field: Field, text: str) -> Any:
    match form:
        case Form.NUMBER:
            return _number(field, text.strip())
        case Form.CHOICE:
            if text not in field.options:
                raise Wrong(f"must be one of {', '.join(field.options)}")
            return field.choices[field.options.index(text)]
        case Form.LINES:
            return text.rstrip("\n").split("\n")
        case Form.MAP:
            return dict(_pair(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
        case Form.JSON:
            try:
                return msgspec.json.decode(text)
            except (UnicodeEncodeError, *UNREADABLE) as error:
                raise Wrong(f"must be JSON: {error}") from error
    return text


def _number(field: Field, text: str) -> float:
    if _INTEGER.fullmatch(text):
        return int(text)
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if field.whole or "_" in text or not math.isfinite(found):
        raise Wrong("must be a whole number" if field.whole else "must be a number")
    return found


def _pair(number: int, line: str) -> tuple[str, str]:
    key, equals, value = line.partition("=")
    if not equals or not key.strip():
        raise Wrong(f"line {number}: write KEY=VALUE")
    return key.strip(), value


def _type(field: Field, value: Any, typed: Typed) -> None:
    if value is UNSET or value is None or (value == field.default and field.form is not Form.CHECK):
        return
    if field.form is Form.GROUP and isinstance(value, dict) and value.keys() <= {each.key for each in field.inner}:
        for each in field.inner:
            _type(each, value.get(each.key, UNSET), typed)
        return
    if field.form is Form.CHECK and isinstance(value, bool):
        if value:
            typed.texts[field.name] = "on"
        return
    text = _text(field, value)
    if text is None or not _means(field, text, value):
        typed.as_json.add(field.name)
        text = json.dumps(value, indent=2, ensure_ascii=False)
    typed.texts[field.name] = text


def _text(field: Field, value: Any) -> str | None:
    """The text of a value in the field's own form; None where it has none."""
    match field.form:
        case Form.LINE | Form.TEXT if isinstance(value, str):
            return value
        case Form.NUMBER if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        case Form.CHOICE:
            return choice_text(value)
        case Form.LINES if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return "\n".join(value)
        case Form.MAP if isinstance(value, dict) and all(isinstance(each, str) for each in value.values()):
            return "\n".join(f"{key}={each}" for key, each in value.items())
    return None


def _means(field: Field, text: str, value: Any) -> bool:
    """Whether a form with this text gives the value back: a line has no line break, a break may not be a bare CR."""
    if "\r" in text or not text or (field.form is Form.LINE and "\n" in text):
        return False
    try:
        found = _parsed(field.form, field, text)
    except Wrong:
        return False
    return type(found) is type(value) and bool(found == value)
