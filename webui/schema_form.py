"""Forms out of JSON Schema: what an agent says it takes, as fields for a person to fill in.

Nothing here knows what a task or a kind is, so that what agents will take some day has its form already. What has no
better form is asked for as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import UNSET

#: Groups within groups; what is nested deeper is asked for as JSON. References may be circular.
MAX_DEPTH = 4
MAX_FIELDS = 200
_MAX_STEPS = 16

#: Strings that are usually more than a line.
_LONG = {"command", "prompt", "script", "stdin", "text", "body", "message", "instructions", "input", "code", "content"}
#: What people come to a form for, required or not.
_ASKED_FIRST = {"prompt", "command"}
#: In a schema that was resolved: what the first of its rules requires.
_USUAL = "x-agentd-web-usual"


class Form(StrEnum):
    """How a value is asked for."""

    LINE = "line"
    TEXT = "text"
    NUMBER = "number"
    CHECK = "check"
    CHOICE = "choice"
    LINES = "lines"  #: strings, one a line
    MAP = "map"  #: KEY=VALUE, one a line
    JSON = "json"
    GROUP = "group"


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a form; `name` is its path, with dots, as agents name it in their errors."""

    name: str
    label: str
    form: Form
    hint: str = ""
    required: bool = False
    usual: bool = False  #: not required as such, but by the first of the rules about its group
    default: Any = UNSET
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    whole: bool = False  #: of a number: an integer
    most: int | None = None  #: characters
    inner: tuple[Field, ...] = ()

    @property
    def key(self) -> str:
        """Its name within its group."""
        return self.name.rpartition(".")[2]

    @property
    def options(self) -> tuple[str, ...]:
        """The choices as they stand in a form."""
        return tuple(map(choice_text, self.choices))


def choice_text(value: Any) -> str:
    """How a choice stands in a form: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def fields_of(schema: Mapping[str, Any], document: Mapping[str, Any]) -> tuple[Field, ...]:
    """The fields of an object's schema; `document` is what its references point into."""
    return _Reader(document).fields(schema, "", 0)


def resolved(schema: Any, document: Mapping[str, Any]) -> dict[str, Any]:
    """A schema, or the one that it refers to within the document; empty for what is none."""
    return _Reader(document).resolved(schema)[0]


class _Reader:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._left = MAX_FIELDS

    def fields(self, schema: Mapping[str, Any], before: str, depth: int) -> tuple[Field, ...]:
        properties = schema.get("properties")
        needed = schema.get("required")
        if not isinstance(properties, dict):
            return ()
        usual = schema.get(_USUAL)
        return tuple(
            self._field(
                before,
                str(name),
                raw,
                depth,
                required=isinstance(needed, list) and name in needed,
                usual=isinstance(usual, list) and name in usual,
            )
            for name, raw in properties.items()
        )

    def _field(self, before: str, key: str, raw: Any, depth: int, *, required: bool, usual: bool) -> Field:
        self._left -= 1
        schema, nullable = self.resolved(raw)
        name = f"{before}.{key}" if before else key
        form = self._form(schema, key, nullable, depth)
        choices = _choices(schema)
        hint = _text(schema.get("description"))
        if form is Form.LINES:
            allowed = _choices(self.resolved(schema.get("items"))[0])
            hint = " ".join(filter(None, [hint, f"One a line, of: {', '.join(map(str, allowed))}." if allowed else ""]))
        if form is Form.CHOICE and not choices:
            choices = (True, False)
        low, above = _number(schema.get("minimum")), _number(schema.get("exclusiveMinimum"))
        most = _number(schema.get("maxLength"))
        return Field(
            name=name,
            label=(isinstance(raw, dict) and _text(raw.get("title"))) or _label(key),
            form=form,
            hint=hint,
            required=required,
            usual=usual or key in _ASKED_FIRST,
            default=schema.get("default", UNSET),
            choices=choices,
            low=low if low is not None else above,
            high=_number(schema.get("maximum")),
            whole=schema.get("type") == "integer",
            most=int(most) if most is not None else None,
            inner=self.fields(schema, name, depth + 1) if form is Form.GROUP else (),
        )

    def _form(self, schema: Mapping[str, Any], key: str, nullable: bool, depth: int) -> Form:
        if _choices(schema):
            return Form.CHOICE
        match schema.get("type"):
            case "string":
                most = _number(schema.get("maxLength"))
                return Form.TEXT if key in _LONG or (most is not None and most > 1000) else Form.LINE
            case "integer" | "number":
                return Form.NUMBER
            case "boolean":
                return Form.CHOICE if nullable else Form.CHECK
            case "array":
                items = self.resolved(schema.get("items"))[0]
                allowed = _choices(items)
                words = bool(allowed) and all(isinstance(each, str) for each in allowed)
                return Form.LINES if words or items.get("type") == "string" else Form.JSON
            case "object":
                properties = schema.get("properties")
                if isinstance(properties, dict) and properties:
                    room = depth < MAX_DEPTH and len(properties) <= self._left
                    return Form.GROUP if room else Form.JSON
                values = self.resolved(schema.get("additionalProperties"))[0]
                return Form.MAP if values.get("type") == "string" else Form.JSON
        return Form.JSON

    def resolved(self, raw: Any) -> tuple[dict[str, Any], bool]:
        """The schema behind references and a choice with null, and whether null is allowed; what stands nearer wins."""
        schema: dict[str, Any] = dict(raw) if isinstance(raw, dict) else {}
        nullable = False
        for _ in range(_MAX_STEPS):
            if isinstance(reference := schema.pop("$ref", None), str):
                schema = {**self._at(reference), **schema}
                continue
            kind = schema.get("type")
            if isinstance(kind, list):
                nullable = nullable or "null" in kind
                rest = [each for each in kind if each != "null"]
                schema["type"] = rest[0] if len(rest) == 1 else None
            word = next((word for word in ("anyOf", "oneOf", "allOf") if isinstance(schema.get(word), list)), None)
            if word is None:
                return schema, nullable
            parts = schema.pop(word)
            others = [each for each in parts if isinstance(each, dict) and each.get("type") != "null"]
            nullable = nullable or len(others) < len(parts)
            if len(others) != 1 and isinstance(schema.get("properties"), dict):
                if others:
                    schema.setdefault(_USUAL, others[0].get("required"))
                continue  # rules about the fields that it has
            if sorted(str(each.get("type")) for each in others) == ["array", "string"]:
                others = [each for each in others if each["type"] == "string"]  # a list can still be shown, as JSON
            if len(others) != 1:
                return {name: schema[name] for name in ("description", "default") if name in schema}, nullable
            schema = {**others[0], **schema}
        return {}, nullable

    def _at(self, reference: str) -> dict[str, Any]:
        """What a reference within the document points at (RFC 6901); nothing for one that leads elsewhere."""
        if not reference.startswith("#/"):
            return {}
        found: Any = self._document
        for part in reference[2:].split("/"):
            found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}


def _choices(schema: Mapping[str, Any]) -> tuple[Any, ...]:
    if "const" in schema:
        return (schema["const"],)
    found = schema.get("enum")
    return tuple(found) if isinstance(found, list) else ()


def _label(key: str) -> str:
    for suffix, unit in (("_s", " (s)"), ("_bytes", " (bytes)"), ("_id", "")):
        if key.endswith(suffix) and key != suffix:
            key = key.removesuffix(suffix) + unit
            break
    text = key.replace("_", " ")
    return text[:1].upper() + text[1:]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
