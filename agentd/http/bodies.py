"""Request bodies: read within a limit, decoded into a value, and every wrong field named at once."""

from __future__ import annotations

import asyncio
import difflib
import itertools
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar, cast, get_args, get_type_hints

import msgspec
from aiohttp import hdrs, web

from agentd.errors import (
    AgentdError,
    FieldError,
    Invalid,
    Malformed,
    RequestTimeout,
    TooLarge,
    UnsupportedMediaType,
)
from agentd.model.reading import MAX_DEPTH, UNREADABLE, choices, containers_in

T = TypeVar("T")

#: Arrays and objects in one body of more than trivial depth; walking them must not hold up others.
MAX_CONTAINERS = 20_000
#: What a body has to come in, in seconds: it is small, and who sends it slowly holds a connection.
BODY_S = 30.0
#: Fields named in one answer.
MAX_ERRORS = 50

_JSON = re.compile(r"application/json\s*(;\s*charset\s*=\s*\"?utf-8\"?\s*)?", re.IGNORECASE)
_AT = re.compile(r"^(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>.*)`)?$", re.DOTALL)


async def read(request: web.BaseRequest, limit: int) -> bytes:
    """The body.

    Raises:
        TooLarge: it is over the limit, by its Content-Length or as it comes.
        UnsupportedMediaType: it is compressed.
        Malformed: its chunks are broken.
        RequestTimeout: it does not come whole in time.
    """
    check_head(request, limit, "limits.body_bytes")
    await invite(request)
    parts: list[bytes] = []
    size = 0
    try:
        if request.content.is_eof():  # it came whole, as small ones do
            body = request.content.read_nowait()
            if len(body) > limit:
                raise _too_large(limit)
            return body
        async with asyncio.timeout(BODY_S):
            while part := await request.content.readany():
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise RequestTimeout(f"the body did not come whole within {BODY_S:.0f} s") from None
    except web.RequestPayloadError as error:
        raise Malformed(f"the body is not sent as HTTP asks: {error}") from error
    return b"".join(parts) if len(parts) != 1 else parts[0]


def check_head(request: web.BaseRequest, limit: int, setting: str) -> None:
    """Refuse a body by what the headers say of it.

    Raises:
        TooLarge: it is over the limit, which is the value of the setting.
        UnsupportedMediaType: it is compressed.
    """
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise UnsupportedMediaType("send the body without Content-Encoding")
    if (request.content_length or 0) > limit:
        raise _too_large(limit, setting)


async def invite(request: web.BaseRequest) -> None:
    """Tell a client that waits for it (`Expect: 100-continue`, as curl does with large bodies) to send the body.

    Raises:
        Malformed: it expects something else.
    """
    expected = request.headers.get(hdrs.EXPECT)
    if expected is None:
        return
    if expected.lower() != "100-continue":
        raise Malformed(f"Expect: {expected[:64]} is not known; 100-continue is")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer itself has not begun


def check_type(request: web.BaseRequest) -> None:
    """Only JSON is read, which no web form can send.

    Raises:
        UnsupportedMediaType: the Content-Type is another.
    """
    given = request.headers.get(hdrs.CONTENT_TYPE)
    if given != "application/json" and (given is None or _JSON.fullmatch(given) is None):
        raise UnsupportedMediaType(f"send Content-Type: application/json, not {given or 'none'}")


@lru_cache(maxsize=64)
def _decoder(shape: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(shape)


def decoded(text: bytes, shape: type[T]) -> T:
    """The value in a body.

    Raises:
        Malformed: it is not JSON, or nested too deeply.
        Invalid: it is not of this shape; `errors` names every field that is wrong.
    """
    return cast(T, _decoded(text, shape, shape))


def decoded_batch(text: bytes, shape: type[T], most: int) -> list[T]:
    """The values in a body that is an array of 1 to `most` of them.

    Raises:
        Malformed, Invalid: as for one; the name of a wrong field begins with its place, as in `[17].priority`.
    """
    values: list[T] = _decoded(text, shape, list[shape])  # type: ignore[valid-type] # a type made here
    if not 1 <= len(values) <= most:
        raise Invalid(f"an array of tasks holds 1 to {most}, not {len(values)}")
    return values


def _decoded(text: bytes, shape: type[Any], whole: Any) -> Any:
    try:
        value = _decoder(whole).decode(text)
    except UNREADABLE as error:
        raise _explained(text, shape, error, many=whole is not shape) from error
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH:
        check_depth(msgspec.json.decode(text))
    return value


def check_depth(value: Any) -> None:
    """Raises Malformed when arrays and objects are nested deeper than MAX_DEPTH, or are too many."""
    found = containers_in(value, MAX_CONTAINERS)
    if found is None:
        raise Malformed(f"the body is nested more than {MAX_DEPTH} deep")
    if found > MAX_CONTAINERS:
        raise Malformed(f"the body has more than {MAX_CONTAINERS} arrays and objects; send less at once")


def _explained(text: bytes, shape: type[Any], error: Exception, *, many: bool) -> AgentdError:
    if not text:
        return Malformed("the body is empty; send a JSON object")
    try:
        raw = msgspec.json.decode(text)
    except RecursionError:
        return Malformed(f"the body is nested more than {MAX_DEPTH} deep")
    except UnicodeDecodeError:
        return Malformed("the body is not UTF-8")
    except msgspec.MsgspecError as unreadable:
        return Malformed(f"the body cannot be read: {unreadable}")
    wrong = _wrong_items(raw, shape) if many else wrong_fields(raw, shape)
    errors = list(itertools.islice(wrong, MAX_ERRORS))
    if not errors:
        errors = [_named("", error, shape)]
    named = "; ".join(f"{each.field}: {each.message}" if each.field else each.message for each in errors[:3])
    more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
    return Invalid(named + more, errors=errors)


def _wrong_items(raw: list[Any], shape: type[Any]) -> Iterator[FieldError]:
    for place, each in enumerate(raw):
        yield from wrong_fields(each, shape, f"[{place}].")


def wrong_fields(raw: Any, shape: type[Any], prefix: str = "") -> Iterator[FieldError]:
    """Every field of a value that a struct does not take: unknown ones, missing ones, those of a wrong kind."""
    if not isinstance(raw, dict):
        yield FieldError(prefix.rstrip("."), f"must be an object, not {_kind_of(raw)}")
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
    types = get_type_hints(shape, include_extras=True)
    if shape.__struct_config__.forbid_unknown_fields:
        for name in raw.keys() - fields.keys():
            yield FieldError(prefix + name[:100], unknown(name, list(fields)))
    for name, field in fields.items():
        if name not in raw:
            if field.required:
                yield FieldError(prefix + name, "is required")
            continue
        try:
            msgspec.convert(raw[name], types[field.name])
        except (msgspec.ValidationError, RecursionError) as error:
            inner = _struct_in(types[field.name])
            if inner is not None and isinstance(raw[name], dict):
                yield from wrong_fields(raw[name], inner, f"{prefix}{name}.")
            else:
                yield _named(prefix + name, error, types[field.name])


def unknown(name: str, known: Sequence[str]) -> str:
    """What to say of an unknown name: the near one, if there is one."""
    near = difflib.get_close_matches(name[:100], known, n=1)
    return f"is not known; did you mean {near[0]!r}?" if near else f"is not known; there are: {', '.join(known)}"


def _struct_in(shape: Any) -> type[Any] | None:
    if isinstance(shape, type) and issubclass(shape, msgspec.Struct):
        return shape
    return next((found for each in get_args(shape) if (found := _struct_in(each)) is not None), None)


def _named(field: str, error: Exception, shape: Any) -> FieldError:
    """The library's message with its path made part of the field's name."""
    match = _AT.match(str(error))
    assert match is not None
    path = match["path"] or ""
    what = match["what"].replace("Expected", "must be", 1).replace("`", "")
    if what.startswith("Invalid enum value") and (words := choices(shape, path)):
        what = f"must be {words}, not {what.removeprefix('Invalid enum value ')}"
    if match["key"]:
        what = f"each key {what}"
    return FieldError((field + path).removeprefix("."), what[:1].lower() + what[1:])


def _kind_of(raw: Any) -> str:
    kinds = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(raw), "a number")


def _too_large(limit: int, setting: str = "limits.body_bytes") -> TooLarge:
    return TooLarge(f"the body is larger than {limit} bytes ({setting})")
