"""JSON that was not written here: what reading it may raise, how deep it may be nested, what may stand where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from threading import Lock
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect

T = TypeVar("T")

#: All that decoding bytes raises which are not the value asked for; the last two are no errors of msgspec's own.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

#: How deep arrays and objects may be nested, so that whoever reads them again never runs out of stack.
MAX_DEPTH = 64
#: One step of the path by which msgspec names a place.
_STEP = re.compile(r"\.\w+|\[[^\]]*\]")


_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_preparing = Lock()


def prepared(shape: type[T]) -> msgspec.json.Decoder[T]:
    """The decoder of a shape, made once.

    msgspec learns what a struct looks like when it is first decoded, and takes no lock: two threads that begin with the
    same one at the same moment crash the process (0.22). What threads decode or convert is prepared here first.
    """
    decoder = _decoders.get(shape)
    if decoder is None:
        with _preparing:
            decoder = _decoders.setdefault(shape, msgspec.json.Decoder(cast(Any, shape)))
    return decoder


def read(text: bytes | str, shape: type[T]) -> T:
    """The value that the text holds.

    Raises:
        msgspec.MsgspecError: it holds none of this shape; nothing else is raised, whatever it holds.
    """
    try:
        return prepared(shape).decode(text)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def containers_in(value: Any, most: int) -> int | None:
    """How many arrays and objects a value is made of; counting ends when they are more than `most`.

    None when they are nested deeper than MAX_DEPTH.
    """
    level = _containers([value])
    found = 0
    for _ in range(MAX_DEPTH):
        found += len(level)
        if not level or found > most:
            return found
        level = _containers([each for outer in level for each in (outer.values() if type(outer) is dict else outer)])
    return None if level else found


def _containers(values: list[Any]) -> list[Any]:
    return [each for each in values if type(each) is dict or type(each) is list]


def choices(shape: Any, place: str) -> str:
    """The words that may stand at a place, which is named as msgspec does (`.limits[0].name`): `one of a, b`.

    Empty where there are none to choose from.
    """
    words: list[str] = []
    for each in _at(shape, place):
        if isinstance(each, inspect.EnumType):
            words += [str(member.value) for member in each.cls]
        elif isinstance(each, inspect.LiteralType):
            words += map(str, each.values)
    return f"one of {', '.join(words)}" if len(words) > 1 else "".join(words)


def fields(shape: Any, place: str) -> list[str]:
    """The names of the fields that an object at a place may have."""
    structs = [each for each in _at(shape, place) if isinstance(each, inspect.StructType)]
    return [field.encode_name for each in structs for field in each.fields]


def _at(shape: Any, place: str) -> list[inspect.Type]:
    found = list(_alternatives(inspect.type_info(shape)))
    for step in _STEP.findall(place):
        found = [inner for each in found for part in _inside(each, step) for inner in _alternatives(part)]
    return found


def _alternatives(kind: inspect.Type) -> Iterator[inspect.Type]:
    if isinstance(kind, inspect.Metadata):
        yield from _alternatives(kind.type)
    elif isinstance(kind, inspect.UnionType):
        for each in kind.types:
            yield from _alternatives(each)
    else:
        yield kind


def _inside(kind: inspect.Type, step: str) -> Iterator[inspect.Type]:
    if isinstance(kind, inspect.StructType):
        yield from (field.type for field in kind.fields if f".{field.encode_name}" == step)
    elif isinstance(kind, inspect.ListType | inspect.VarTupleType) and step[0] == "[":
        yield kind.item_type
    elif isinstance(kind, inspect.DictType) and step[0] == "[":
        yield kind.value_type
