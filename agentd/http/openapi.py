"""The OpenAPI 3.1 document, made from the table of routes and the types that validate: it cannot say otherwise."""

from __future__ import annotations

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
    RequestTimeout,
    StorageFailed,
    TooLarge,
    Unauthorized,
    UnsupportedMediaType,
    UriTooLong,
)
from agentd.http import problems, sse
from agentd.http.links import links_of
from agentd.http.parameters import described
from agentd.http.routing import BodyUse, Route, Table
from agentd.http.shapes import TEMPLATE, Shapes, parts
from agentd.kinds.protocol import Kind
from agentd.model.events import ANNOUNCED, EVENT_TYPES

#: What every route may answer, and what every route with a body, or that writes, may.
_ALWAYS: tuple[type[AgentdError], ...] = (Malformed, UriTooLong, HeadersTooLarge, AgentdError)
_WITH_TOKEN: tuple[type[AgentdError], ...] = (Unauthorized, Forbidden, RateLimited)
_WITH_BODY: tuple[type[AgentdError], ...] = (Invalid, RequestTimeout, TooLarge, UnsupportedMediaType)

_DESCRIPTION = """The truth about long-running work. Every route but /healthz needs `Authorization: Bearer TOKEN`.

Errors are RFC 9457 problem documents; `code` is stable. Lists are pages: ask again with `cursor=next`.
Every answer carries X-Request-Id; one that the client sends is kept. GET routes also answer HEAD.
Integers are written without a fraction: 1, not 1.0."""


@lru_cache(maxsize=1)
def document(table: Table, kinds: tuple[Kind, ...]) -> bytes:
    """The document of a table's routes and of the kinds of tasks, as JSON.

    `x-agentd-kinds` has, by its name, each kind's title and the schema of its `spec`: all that a form needs.
    """
    routes = table.routes
    shapes = Shapes(routes, kinds)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path.replace("*}", "}"), {})[route.method.lower()] = _operation(route, shapes, routes)
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


def _operation(route: Route, shapes: Shapes, routes: Iterable[Route]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [_tag(route)],
        "parameters": described(route),
        "responses": _responses(route, shapes, routes),
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
            "content": {"application/json": {"schema": _body_schema(route, shapes)}},
        }
    elif route.body_use is BodyUse.BYTES:
        operation["requestBody"] = {"required": False, "content": {"application/octet-stream": {}}}
    return operation


def _body_schema(route: Route, shapes: Shapes) -> dict[str, Any]:
    one = shapes.of(route.body)
    if not route.batch:
        return one
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": route.batch}]}


def _responses(route: Route, shapes: Shapes, routes: Iterable[Route]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, answer in route.answers.items():
        found[str(status)] = _success(route, status, answer, shapes)
        if status == 201:
            found[str(status)]["links"] = links_of(route, parts(answer)[0], routes)
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
    if route.body_use is not BodyUse.NONE:
        yield from _WITH_BODY
    elif route.method != "GET":
        yield Invalid
    if route.method != "GET":
        yield StorageFailed
    yield from route.errors


def _success(route: Route, status: int, answer: Any, shapes: Shapes) -> dict[str, Any]:
    headers = ["X-Request-Id"] if route.role is None else ["X-Request-Id", "Agentd-Role"]
    if route.method == "GET" and status in (200, 206):
        headers.append("ETag")
    if status == 201:
        headers += ["Location", "Idempotency-Replayed"] if route.key else ["Location"]
    if status == 206:
        headers.append("Content-Range")
    response: dict[str, Any] = {"description": HTTPStatus(status).phrase, "headers": _common_headers(*headers)}
    content: dict[str, Any] = {}
    schemas: list[dict[str, Any]] = []
    for part in parts(answer):
        if part == sse.MEDIA_TYPE:
            content[part] = {"schema": {"type": "string", "description": _EVENTS}}
        elif isinstance(part, str):
            content[part] = {}
        elif part is not None:
            schemas.append(shapes.of(part))
    if schemas:
        content["application/json"] = {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}
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
            {"$ref": TEMPLATE.format(name="Problem")},
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
    return {
        "sessions": "sessions",
        "workflows": "sessions",
        "tasks": "tasks",
        "workers": "workers",
        "queue": "workers",
    }.get(first, "events" if first == "events" else "daemon")
