"""What routes take beside a body, as the OpenAPI document describes it: parts of paths, queries, headers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from agentd.http import sse
from agentd.http.links import names_in
from agentd.http.queries import parameters
from agentd.http.routing import Route
from agentd.http.shapes import parts
from agentd.model.ids import ALPHABET, SESSION_ID, TASK_ID_LENGTH
from agentd.store.inside import MAX_DEPTH, MAX_NAME_BYTES, MAX_PATH_BYTES

_FILE = rf"[^/\u0000-\u001f\u007f-\u009f]{{1,{MAX_NAME_BYTES}}}"
#: Of what stands in paths, by name.
_FORMS: dict[str, dict[str, Any]] = {
    "session_id": {"pattern": f"^{SESSION_ID}$"},
    "task_id": {"pattern": f"^[{ALPHABET}]{{{TASK_ID_LENGTH}}}$"},
    "run_id": {"pattern": f"^[{ALPHABET}]{{{TASK_ID_LENGTH}}}$"},
    "path": {
        "pattern": rf"^(?!(.*/)?\.{{1,2}}(/|$)){_FILE}(/{_FILE}){{0,{MAX_DEPTH - 1}}}$",
        "maxLength": MAX_PATH_BYTES,
    },
}
#: Of headers, by name.
_TAG = r'(W/)?"[!#-~]*"'
_HEADERS = {
    "Idempotency-Key": {"pattern": "^[!-~]([ -~]{0,253}[!-~])?$"},
    "If-Match": {"pattern": rf"^(\*|{_TAG}( *, *{_TAG})*)$"},
}


def described(route: Route) -> list[dict[str, Any]]:
    """All parameters of a route."""
    return [*_of_path(route), *_of_query(route), *_of_headers(route)]


def _of_path(route: Route) -> Iterator[dict[str, Any]]:
    for name in names_in(route.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", **_FORMS.get(name, {})}}


def _of_query(route: Route) -> Iterator[dict[str, Any]]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(route.query)}
    for name, parameter in parameters(route.query).items():
        schema = msgspec.json.schema(parameter.type, ref_template="#/$defs/{name}")
        definitions = schema.pop("$defs", {})
        schema = _inlined(schema, definitions)
        if name == "limit":
            schema |= {"minimum": 1, "maximum": 1000}
        if not parameter.many and not parameter.required and fields[name].default is not None:
            schema["default"] = fields[name].default
        found: dict[str, Any] = {"name": name, "in": "query", "required": parameter.required, "schema": schema}
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


def _of_headers(route: Route) -> Iterator[dict[str, Any]]:
    def header(name: str, description: str) -> dict[str, Any]:
        return {
            "name": name,
            "in": "header",
            "required": False,
            "schema": {"type": "string", **_HEADERS.get(name, {})},
            "description": description,
        }

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
    streams = sse.MEDIA_TYPE in [part for answer in route.answers.values() for part in parts(answer)]
    if streams and route.name != "stream_growth":
        yield header("Last-Event-ID", "The id of the last event that was seen; stands over the query.")
