"""Query parameters: each route names its own as a struct; any other is an error that names it."""

from __future__ import annotations

from collections import defaultdict
from enum import Enum
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeVar, cast, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from agentd.errors import FieldError, Malformed
from agentd.http.bodies import unknown
from agentd.model.task import Value

T = TypeVar("T")

MAX_PARAMETERS = 200
MAX_LIMIT = 1000
#: What stands for "no matter" where a filter has a default.
ANY = "any"


#: Beside the type of a parameter that must be given; its handler refuses the default.
REQUIRED = Meta(extra={"required": True})


class NoQuery(Value, frozen=True, kw_only=True):
    """A route without parameters."""


class Parameter(NamedTuple):
    """One parameter: its type, whether it may be repeated, and whether it must be there."""

    type: Any
    many: bool

    @property
    def required(self) -> bool:
        return REQUIRED in getattr(self.type, "__metadata__", ())


@lru_cache(maxsize=64)
def parameters(shape: Any) -> dict[str, Parameter]:
    """The parameters that a struct describes, by name."""
    types = get_type_hints(shape, include_extras=True)
    return {
        field.encode_name: Parameter(types[field.name], get_origin(types[field.name]) is tuple)
        for field in msgspec.structs.fields(shape)
    }


def decoded(query: str, shape: type[T]) -> T:
    """The value of a query string.

    Raises:
        Malformed: an unknown parameter, one given twice, or a value of a wrong kind; `errors` names each.
    """
    if not query:
        return shape()
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except UnicodeDecodeError:
        raise Malformed("the query is not UTF-8") from None
    except ValueError:
        raise Malformed(f"the query has more than {MAX_PARAMETERS} parameters") from None
    given: dict[str, list[str]] = defaultdict(list)
    for name, text in pairs:
        given[name].append(text)
    known = parameters(cast(Any, shape))
    errors: list[FieldError] = []
    values: dict[str, Any] = {}
    for name, texts in given.items():
        if name not in known:
            errors.append(
                FieldError(name[:100], unknown(name, list(known)) if known else "is not known; there are none")
            )
            continue
        try:
            values[name] = _value(texts, known[name])
        except (msgspec.ValidationError, ValueError) as error:
            errors.append(FieldError(name, _reason(error, known[name])))
    limit = values.get("limit")
    if isinstance(limit, int) and not 1 <= limit <= MAX_LIMIT:
        errors.append(FieldError("limit", f"must be 1 to {MAX_LIMIT}"))
    if errors:
        raise Malformed("; ".join(f"{each.field} {each.message}" for each in errors[:5]), errors=errors[:50])
    return shape(**values)


def _reason(error: Exception, parameter: Parameter) -> str:
    choices = _choices(parameter.type)
    if choices:
        return f"must be {'any of' if parameter.many else 'one of'} {', '.join(choices)}"
    return str(error).replace("`", "").replace("Expected", "must be", 1)


def _choices(kind: Any) -> list[str]:
    """The values that a parameter of a closed set can have."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(each.value) for each in kind]
    if get_origin(kind) is Literal:
        return [str(each) for each in get_args(kind)]
    return [choice for part in get_args(kind) for choice in _choices(part)]


def _value(texts: list[str], parameter: Parameter) -> Any:
    if parameter.many:
        return msgspec.convert(texts, parameter.type, strict=False)
    if len(texts) > 1:
        raise ValueError("is given more than once")
    text = texts[0]
    if text == ANY and type(None) in get_args(parameter.type) and bool in get_args(parameter.type):
        return None
    return msgspec.convert(text, parameter.type, strict=False)
