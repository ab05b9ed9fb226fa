"""Filters as the API takes them: field names as parameters, repeated for each value."""

from __future__ import annotations

from enum import Enum

import msgspec

from agentd.model.requests import Window


def encoded(query: Window) -> list[tuple[str, str]]:
    """The parameters of a query; what has its default is left out."""
    found: list[tuple[str, str]] = []
    for field in msgspec.structs.fields(query):
        value = getattr(query, field.name)
        if value == field.default:
            continue
        values = value if isinstance(value, tuple) else (value,)
        found.extend((field.name, _text(v)) for v in values)
    return found


def _text(value: object) -> str:
    if value is None:
        return "any"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value.value if isinstance(value, Enum) else value)
