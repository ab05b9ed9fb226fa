"""The OpenAPI 3.1 document, made from the table of routes and the types that validate: it cannot say otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import msgspec

from agentd import __version__
from agentd.errors import (
    AgentdError,
    Forbidden,
    HeadersTooLarge,
    Invalid,
    Malformed,
    RateLimited,
    StorageFailed,
    TooLarge,
    Unauthorized,
    UnsupportedMediaType,
    UriTooLong,
)
from agentd.http import problems, sse
from agentd.http.queries import parameters
from agentd.http.routing import BodyUse, Route, Table
from agentd.kinds.protocol import Kind
from agentd.model.events import ANNOUNCED, EVENT_TYPES

#: What every route may answer, and what every route with a body, or that writes, may.
_ALWAYS: tuple[type[AgentdError], ...] = (Malformed, UriTooLong, HeadersTooLarge, AgentdError)
_WITH_TOKEN: tuple[type[AgentdError], ...] = (Unauthorized, Forbidden, RateLimited)
_WITH_BODY: tuple[type[AgentdError], ...] = (Invalid, TooLarge, UnsupportedMediaType)

_TEMPLATE = "#/components/schemas/{name}"
_DESCRIPTION = """The truth about long-running work. Every route but /healthz needs `Authorization: Bearer TOKEN`.

Errors are RFC 9457 problem documents; `code` is stable. Lists are pages: ask again with `cursor=next`.
Every answer carries X-Request-Id; one that the client sends is kept. GET routes also answer HEAD."""


@lru_cache(maxsize=1)
def document(table: Table, kinds: tuple[Kind, ...]) -> bytes:
    """The document of a table's routes and of the kinds of tasks, as JSON.

    `x-agentd-kinds` has, by its name, each kind's title and the schema of its `spec`: all that a form needs.
    """
    routes = table.routes
    shapes = _Shapes(routes, kinds)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path.replace("*}", "}"), {})[route.method.lower()] = _operation(route, shapes)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
            "info": {
                "title": "agentd",
                "version": __version__,
                "summary": "The daemon that owns long-running agent work.",
                "description": _DESCRIPTION,
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "servers": [{"url": "/"}],
            "security": [{"token": []}],
            "tags": [{"name": tag} for tag in dict.fromkeys(map(_tag, routes))],
            "paths": paths,
            "x-agentd-kinds": {kind.name: {"title": kind.title, "spec": shapes.of(kind.Spec)} for kind in kinds},
            "components": {
                "schemas": shapes.components,
                "responses": {_response_name(code): _problem_response(code) for code in problems.STATUS},
                "headers": _HEADERS,
                "securitySchemes": {
                    "token": {
                        "type": "http",
                        "scheme": "bearer",
                        "description": "Roles: viewer < operator < admin. A task's own token reaches its session.",
                    }
                },
            },
        }
    )


class _Shapes:
    """The schemas of all types that routes and kinds name."""

    def __init__(self, routes: Iterable[Route], kinds: Iterable[Kind]) -> None:
        types: dict[Any, None] = {problems.Problem: None, **dict.fromkeys(kind.Spec for kind in kinds)}
        for route in routes:
            if route.body is not None:
                types[route.body] = None
            for answer in route.answers.values():
                for shape in _parts(answer):
                    if shape is not None and not isinstance(shape, str):
                        types[shape] = None
        schemas, components = msgspec.json.schema_components(list(types), ref_template=_TEMPLATE)
        self.components = components
        self._schemas: dict[Any, dict[str, Any]] = dict(zip(types, schemas, strict=True))

    def of(self, shape: Any) -> dict[str, Any]:
        return self._schemas[shape]


def _parts(answer: Any) -> tuple[Any, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


def _operation(route: Route, shapes: _Shapes) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [_tag(route)],
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_header_parameters(route)],
        "responses": _responses(route, shapes),
        "x-role": route.role.name.lower() if route.role is not None else "none",
        "x-for-tasks": route.for_tasks,
    }
    if route.description:
        operation["description"] = route.description
    if route.role is None:
        operation["security"] = []
    if route.body_use is BodyUse.JSON:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": shapes.of(route.body)}},
        }
    elif route.body_use is BodyUse.BYTES:
        operation["requestBody"] = {"required": True, "content": {"application/octet-stream": {}}}
    return operation


def _path_parameters(route: Route) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"{(\w+)\*?}", route.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query_parameters(route: Route) -> Iterator[dict[str, Any]]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(route.query)}
    for name, parameter in parameters(route.query).items():
        schema = msgspec.json.schema(parameter.type, ref_template="#/$defs/{name}")
        definitions = schema.pop("$defs", {})
        schema = _inlined(schema, definitions)
        if name == "limit":
            schema |= {"minimum": 1, "maximum": 1000}
        if not parameter.many and fields[name].default is not None:
            schema["default"] = fields[name].default
        found: dict[str, Any] = {"name": name, "in": "query", "required": False, "schema": schema}
        if parameter.many:
            found |= {"style": "form", "explode": True}
        yield found


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {name: _inlined(value, definitions) for name, value in schema.items()}


def _header_parameters(route: Route) -> Iterator[dict[str, Any]]:
    def header(name: str, description: str) -> dict[str, Any]:
        return {
            "name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": description
        }  # fmt: skip

    yield header("X-Request-Id", "1 to 128 of A-Z a-z 0-9 . _ - to find this request by; one is made otherwise.")
    if route.key:
        yield header("Idempotency-Key", "The same key and body give the first answer again, also after a restart.")
    if route.versioned:
        yield header("If-Match", "The ETag of a read; the write is refused when it is no longer current.")
    if route.method == "GET" and route.role is not None:
        yield header("If-None-Match", "The ETag of an earlier answer; 304 when it is still current.")
    if route.name == "get_output":
        yield header("Range", "One range of bytes, also a suffix: bytes=0-99, bytes=100-, bytes=-100.")
        yield header("If-Range", "The range is served only while this ETag is current.")
    streams = sse.MEDIA_TYPE in [part for answer in route.answers.values() for part in _parts(answer)]
    if streams and route.name != "stream_growth":
        yield header("Last-Event-ID", "The id of the last event that was seen; stands over the query.")


def _responses(route: Route, shapes: _Shapes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, answer in route.answers.items():
        found[str(status)] = _success(route, status, answer, shapes)
    if route.method == "GET" and route.role is not None:
        found["304"] = {"description": "Not Modified", "headers": _common_headers("Agentd-Role", "ETag")}
    by_status: dict[int, list[str]] = {}
    for error in dict.fromkeys(_errors(route)):
        by_status.setdefault(problems.STATUS[error.code], []).append(error.code)
    for status, codes in sorted(by_status.items()):
        found[str(status)] = (
            {"$ref": f"#/components/responses/{_response_name(codes[0])}"}
            if len(codes) == 1
            else _several(status, codes)
        )
    return found


def _errors(route: Route) -> Iterator[type[AgentdError]]:
    yield from _ALWAYS
    if route.role is not None:
        yield from _WITH_TOKEN
    if route.body_use is BodyUse.JSON:
        yield from _WITH_BODY
    if route.body_use is BodyUse.NONE and route.method != "GET":
        yield Invalid
    if route.method != "GET":
        yield StorageFailed
    yield from route.errors


def _success(route: Route, status: int, answer: Any, shapes: _Shapes) -> dict[str, Any]:
    headers = ["X-Request-Id"] if route.role is None else ["X-Request-Id", "Agentd-Role"]
    if route.method == "GET" and status in (200, 206):
        headers.append("ETag")
    if status == 201:
        headers += ["Location", "Idempotency-Replayed"] if route.key else ["Location"]
    if status == 206:
        headers.append("Content-Range")
    response: dict[str, Any] = {"description": HTTPStatus(status).phrase, "headers": _common_headers(*headers)}
    content: dict[str, Any] = {}
    for part in _parts(answer):
        if part == sse.MEDIA_TYPE:
            content[part] = {"schema": {"type": "string", "description": _EVENTS}}
        elif isinstance(part, str):
            content[part] = {}
        elif part is not None:
            content["application/json"] = {"schema": shapes.of(part)}
    if content:
        response["content"] = content
    return response


_EVENTS = "Event types: hello, gap, output, growth, end; " + ", ".join(
    sorted({*EVENT_TYPES, *(str(cls.__struct_config__.tag) for cls in ANNOUNCED)})
)


def _response_name(code: str) -> str:
    return "".join(word.capitalize() for word in code.split("_"))


def _problem_content(codes: list[str]) -> dict[str, Any]:
    schema = {
        "allOf": [
            {"$ref": _TEMPLATE.format(name="Problem")},
            {"properties": {"code": {"enum": codes}}},
        ]
    }
    return {problems.MEDIA_TYPE: {"schema": schema}}


def _problem_response(code: str) -> dict[str, Any]:
    return {
        "description": problems.title_of(code),
        "headers": _common_headers("X-Request-Id", *(["Retry-After"] if code in problems.RETRY_AFTER_S else [])),
        "content": _problem_content([code]),
    }


def _several(status: int, codes: list[str]) -> dict[str, Any]:
    return {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(codes)}",
        "headers": _common_headers("X-Request-Id"),
        "content": _problem_content(codes),
    }


def _common_headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _header(description: str, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}}


_HEADERS = {
    "X-Request-Id": _header("The request's id, as in the daemon's log."),
    "Agentd-Role": _header("What the token may do: viewer, operator, admin, or task; absent where it is refused."),
    "ETag": _header("The version of what was read."),
    "Location": _header("Where the new thing is."),
    "Idempotency-Replayed": _header("`true` when this is the first answer given again."),
    "Retry-After": _header("Seconds after which trying again makes sense.", "integer"),
    "Content-Range": _header("Which bytes of how many."),
}


def _tag(route: Route) -> str:
    first = route.path.split("/")[1]
    return {"sessions": "sessions", "tasks": "tasks", "workers": "workers", "queue": "workers"}.get(
        first, "events" if first == "events" else "daemon"
    )
