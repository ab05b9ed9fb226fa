"""Specs that may be wrong: reading one, and the rules that several kinds have for its texts and its environment."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from agentd.errors import FieldError, Invalid
from agentd.model.reading import choices, fields

#: What a command line, all arguments together, an environment and an input may measure, in characters.
TEXT_MOST = 1 << 20
#: One argument that the system accepts at most (MAX_ARG_STRLEN of execve(2)), less its end.
ARGUMENT_MOST = (128 << 10) - 1

RESERVED = "AGENTD_"
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SURROGATE = re.compile("[\ud800-\udfff]")

# What `Problems` checks, as the document says it.
TEXT_SCHEMA: dict[str, Any] = {"pattern": r"^[^\u0000]*$", "maxLength": ARGUMENT_MOST}
SOME_TEXT = r"^[^\u0000]*[^\u0000\s][^\u0000]*$"
Cwd = Annotated[str, Meta(extra_json_schema={**TEXT_SCHEMA, "maxLength": 4095})]
Env = dict[
    Annotated[str, Meta(extra_json_schema={"pattern": f"^(?!{RESERVED}){_ENV_NAME.pattern}$"})],
    Annotated[str, Meta(extra_json_schema=TEXT_SCHEMA)],
]
S = TypeVar("S")


def decoded(spec: dict[str, Any], shape: type[S]) -> S:
    """The spec as its kind knows it.

    Raises:
        Invalid: naming the field, as in `spec.limits.files`.
    """
    try:
        return msgspec.convert(spec, shape)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), shape) from None


def _invalid(message: str, shape: type) -> Invalid:
    """msgspec says `Expected … - at `$.limits.files``, or names an unknown field of an object."""
    text, _, path = message.partition(" - at `$")
    field = "spec" + path.rstrip("`")
    if (unknown := re.search(r"unknown field `(.+)`", text)) is not None:
        near = difflib.get_close_matches(unknown[1][:100], fields(shape, path.rstrip("`")), n=1)
        return Invalid.field(f"{field}.{unknown[1]}", "no such field" + "".join(f"; did you mean {it}?" for it in near))
    if (missing := re.search(r"missing required field `(.+)`", text)) is not None:
        words = choices(shape, f"{path.rstrip('`')}.{missing[1]}")
        return Invalid.field(f"{field}.{missing[1]}", f"is required: {words}" if words else "is required")
    if text.startswith("Invalid enum value") and (words := choices(shape, path.rstrip("`"))):
        return Invalid.field(field, f"must be {words}, not {text.removeprefix('Invalid enum value ')}")
    return Invalid.field(field, text[:1].lower() + text[1:])


class Problems:
    """Collects what is wrong with a spec."""

    def __init__(self) -> None:
        self.found: list[FieldError] = []

    def add(self, field: str, message: str) -> None:
        """This field is wrong."""
        self.found.append(FieldError(f"spec.{field}", message))

    def text(self, field: str, value: str, most: int, *, binary: bool = False) -> None:
        """Text that a program is given: no NUL byte unless `binary`, at most so many bytes, Unicode."""
        if "\0" in value and not binary:
            self.add(field, "must not contain a NUL byte")
        elif (len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))) > most:
            self.add(field, f"must not be longer than {most} bytes")
        elif _SURROGATE.search(value) is not None:
            self.add(field, "must be valid Unicode")

    def env(self, env: dict[str, str]) -> None:
        """Variables over those that tasks inherit."""
        for name, value in env.items():
            if not _ENV_NAME.fullmatch(name):
                self.add(f"env.{name}", "names are letters, digits and _, and do not begin with a digit")
            elif name.startswith(RESERVED):
                self.add(f"env.{name}", f"names that begin with {RESERVED} are set by agentd")
            self.text(f"env.{name}", value, ARGUMENT_MOST)
        if sum(len(name) + len(value) for name, value in env.items()) > TEXT_MOST:
            self.add("env", f"must not be longer than {TEXT_MOST} characters in all")

    def raise_any(self) -> None:
        """Refuse the spec if anything was found.

        Raises:
            Invalid: naming each wrong field.
        """
        if self.found:
            raise Invalid("; ".join(f"{field}: {message}" for field, message in self.found), errors=self.found)
