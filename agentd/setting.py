"""One setting: its names, the values it takes, and how a text or a number from outside is read as one of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect
from msgspec.structs import fields

PREFIX = "AGENTD_"


class Setting(NamedTuple):
    """One key that can be set: its dotted name, its type and its default."""

    key: str
    kind: inspect.Type
    optional: bool
    default: Any

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.key.replace(".", "_").upper()

    @property
    def allowed(self) -> str:
        """What values it takes, in words."""
        match self.kind:
            case inspect.IntType() if self.key.endswith("_bytes"):
                words = "a size like 10MiB or 2GB, or a number of bytes" + _between(self.kind)
            case inspect.IntType():
                words = "a whole number" + _between(self.kind)
            case inspect.FloatType():
                words = "a duration like 10s, 5m, 2h or 7d, or a number of seconds" + _between(self.kind)
            case inspect.BoolType():
                words = "true or false"
            case inspect.LiteralType(values=values):
                words = "one of " + ", ".join(map(str, values))
            case inspect.VarTupleType():
                words = "a list of texts"
            case inspect.DictType():
                words = "names with a list of texts each, in agentd.yaml"
            case _:
                words = "a text"
        return words + (", or null" if self.optional else "")


def leaves(section: Any, prefix: str = "") -> Iterator[Setting]:
    """Every setting in a struct of structs, whose values are the defaults."""
    for field in fields(section):
        key, default = prefix + field.name, getattr(section, field.name)
        if isinstance(default, msgspec.Struct):
            yield from leaves(default, key + ".")
            continue
        kind = inspect.type_info(field.type)
        optional = isinstance(kind, inspect.UnionType)
        if isinstance(kind, inspect.UnionType):
            kind = next(t for t in kind.types if not isinstance(t, inspect.NoneType))
        yield Setting(key, kind, optional, default)


def read(setting: Setting, raw: Any) -> Any:
    """The value that a raw one, of YAML, the environment or a flag, stands for.

    Raises:
        ValueError: it stands for none that `setting.allowed`.
    """
    if setting.optional and (raw is None or (isinstance(raw, str) and raw.strip().lower() in {"", "null", "none"})):
        return None
    if any(isinstance(each, str) and not _is_text(each) for each in (raw if isinstance(raw, list | tuple) else (raw,))):
        raise ValueError
    match setting.kind, raw:
        case inspect.BoolType(), bool():
            return raw
        case inspect.BoolType(), str() if raw.strip().lower() in {"true", "yes", "on", "1"}:
            return True
        case inspect.BoolType(), str() if raw.strip().lower() in {"false", "no", "off", "0"}:
            return False
        case (inspect.IntType() | inspect.FloatType()) as kind, int() | float() | str() if not isinstance(raw, bool):
            return _number(setting.key, kind, raw)
        case inspect.LiteralType(values=values), str() if raw.strip() in values:
            return raw.strip()
        case inspect.StrType(), str():
            return os.path.expanduser(raw) if setting.key in {"data_dir", "http.socket"} else raw
        case inspect.VarTupleType(), list() | tuple() if _are_texts(raw):
            return tuple(raw)
        case inspect.DictType(), dict() if all(
            isinstance(each, list) and _are_texts(each) and all(map(_is_text, each)) for each in raw.values()
        ) and _are_texts(raw):
            return {name: tuple(each) for name, each in raw.items()}
    raise ValueError


def _are_texts(raw: Iterable[object]) -> bool:
    return all(isinstance(item, str) and item for item in raw)


def _is_text(raw: str) -> bool:
    """Whether the system takes it as a name: no NUL; bytes of the environment that are not UTF-8 stay those."""
    try:
        return b"\0" not in os.fsencode(raw)
    except UnicodeEncodeError:
        return False


_NO_LIMIT = 1 << 62  #: fits a file offset and a double
_UNITS = {
    "_s": {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800},
    "_bytes": {"": 1, "b": 1}
    | {f"{p}b": 1000**n for n, p in enumerate("kmgt", 1)}
    | {f"{p}ib": 1024**n for n, p in enumerate("kmgt", 1)},
}


def _number(key: str, kind: inspect.IntType | inspect.FloatType, raw: float | str) -> float:
    if isinstance(raw, str):
        units = next((table for suffix, table in _UNITS.items() if key.endswith(suffix)), {"": 1})
        form = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", raw)
        if form is None or form[2].lower() not in units:
            raise ValueError
        raw = float(form[1]) * units[form[2].lower()] if "." in form[1] else int(form[1]) * units[form[2].lower()]
    low, high = _bounds(kind)
    if not low <= raw <= high:  # false for nan too
        raise ValueError
    if isinstance(kind, inspect.FloatType):
        return float(raw)
    if raw != int(raw) and not key.endswith("_bytes"):
        raise ValueError
    return int(raw)


def _bounds(kind: inspect.IntType | inspect.FloatType) -> tuple[float, float]:
    return 0 if kind.ge is None else kind.ge, _NO_LIMIT if kind.le is None else kind.le


def _between(kind: inspect.IntType | inspect.FloatType) -> str:
    low, high = _bounds(kind)
    return f", at least {low}" if high == _NO_LIMIT else f", {low} to {high}"


def shown(raw: Any) -> str:
    """A value in an error, cut where it is long."""
    text = repr(raw)
    return text if len(text) <= 60 else text[:57] + "..."
