"""The JSON Schemas of all that routes take and answer, made from the types themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from agentd.http import problems
from agentd.http.routing import Route
from agentd.kinds.protocol import Kind
from agentd.model.requests import NewTask

TEMPLATE = "#/components/schemas/{name}"


class Shapes:
    """The schemas of all types that routes and kinds name; `RULES` of a type says what those of its fields cannot."""

    def __init__(self, routes: Iterable[Route], kinds: Iterable[Kind]) -> None:
        types: dict[Any, None] = {problems.Problem: None, **dict.fromkeys(kind.Spec for kind in kinds)}
        for route in routes:
            if route.body is not None:
                types[route.body] = None
            for answer in route.answers.values():
                for shape in parts(answer):
                    if shape is not None and not isinstance(shape, str):
                        types[shape] = None
        schemas, components = msgspec.json.schema_components(list(types), ref_template=TEMPLATE)
        for shape, schema in zip(types, schemas, strict=True):
            if rules := getattr(shape, "RULES", None):
                components[schema["$ref"].rpartition("/")[2]] |= rules
        for kind in kinds:
            for field, values in kind.choices.items():
                components[kind.Spec.__name__]["properties"][field]["enum"] = list(values)
        if (new_task := components.get(NewTask.__name__)) is not None:
            taken = dict(zip(types, schemas, strict=True))
            new_task["properties"]["kind"]["enum"] = [kind.name for kind in kinds]
            new_task["properties"]["spec"]["anyOf"] = [taken[kind.Spec] for kind in kinds]
            default = new_task["properties"]["kind"]["default"]
            new_task["oneOf"] = [
                {
                    "properties": {"kind": {"const": kind.name}, "spec": taken[kind.Spec]},
                    "required": [] if kind.name == default else ["kind"],
                }
                for kind in kinds
            ]
        self.components = components
        self._schemas: dict[Any, dict[str, Any]] = dict(zip(types, schemas, strict=True))

    def of(self, shape: Any) -> dict[str, Any]:
        return self._schemas[shape]


def parts(answer: Any) -> tuple[Any, ...]:
    """What a route may answer under one status: each a type, a media type, or None."""
    return answer if isinstance(answer, tuple) else (answer,)
