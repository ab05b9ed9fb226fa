"""Answers: JSON with its version, and nothing else a browser could make something of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, MutableMapping
from typing import Any

import msgspec
from aiohttp import hdrs, web
from multidict import CIMultiDict

from agentd.http.auth import NOBODY
from agentd.http.routing import Call

_encoder = msgspec.json.Encoder()

_JSON_HEADERS = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Server": "agentd",
}


def headers(call: Call, content_type: str, **more: str) -> CIMultiDict[str]:
    """The headers of every answer; names in `more` have `_` for `-`."""
    found = CIMultiDict(_JSON_HEADERS)
    found["Content-Type"] = content_type
    found["X-Request-Id"] = call.request_id
    show_role(call, found)
    for name, value in more.items():
        found[name.replace("_", "-")] = value
    return found


def show_role(call: Call, headers: MutableMapping[str, str]) -> None:
    """Say what the caller may do, once its token is known: a client without a state of its own asks no other way."""
    if call.caller is not NOBODY:
        headers["Agentd-Role"] = call.caller.shown_role


def json(call: Call, value: Any, status: int = 200, **more: str) -> web.Response:
    """A value as JSON."""
    return web.Response(status=status, body=_encoder.encode(value), headers=headers(call, "application/json", **more))


def versioned(call: Call, value: Any, etag: str) -> web.Response:
    """A value as JSON under its ETag, or 304 when the client has that version."""
    if is_known(call, etag):
        return not_modified(call, etag)
    return json(call, value, ETag=etag)


def hashed(call: Call, value: Any) -> web.Response:
    """A value without a version of its own; its ETag is a hash of the text."""
    return hashed_text(call, _encoder.encode(value))


def hashed_text(call: Call, text: bytes, of: bytes | None = None) -> web.Response:
    """JSON text without a version of its own; its ETag is a hash of it, or of what identifies it."""
    etag = f'"{hashlib.blake2b(text if of is None else of, digest_size=12).hexdigest()}"'
    if is_known(call, etag):
        return not_modified(call, etag)
    return web.Response(body=text, headers=headers(call, "application/json", ETag=etag))


def joined(lines: Iterable[bytes], **rest: Any) -> bytes:
    """A page whose rows are JSON texts already: they are joined, not parsed."""
    tail = _encoder.encode(rest)
    return b'{"data":[' + b",".join(lines) + b"]," + tail[1:]


def empty(call: Call, status: int = 204) -> web.Response:
    """An answer without a body."""
    found = headers(call, "")
    del found["Content-Type"]
    return web.Response(status=status, headers=found)


def version_tag(seq: int) -> str:
    """The ETag of a value that has a `seq`."""
    return f'"{seq}"'


def is_known(call: Call, etag: str) -> bool:
    """Whether the client has this version, by If-None-Match (RFC 9110 §13.1.2: weak comparison)."""
    given = call.request.headers.get(hdrs.IF_NONE_MATCH)
    if given is None:
        return False
    return given.strip() == "*" or etag in (each.strip().removeprefix("W/") for each in given.split(","))


def not_modified(call: Call, etag: str) -> web.Response:
    """304: the client has it."""
    response = empty(call, 304)
    response.headers["ETag"] = etag
    return response
