"""What an expression comes to. Total: every expression has a value, whatever the names stand for.

- A name that has no value (an output that was not written, a matrix key of other combinations) is the empty text.
- A part that is not there, and fromJSON() of what is no JSON, is null.
- false, null, 0, NaN and the empty text count as false; everything else, also the text 'false', as true. `&&` and `||`
  give one of their sides.
- `==` is by value: a text and a number are compared as numbers when the text is one, else they differ, as do other
  things of different types. Texts are compared as they are: capital letters count.
- `<` and its like compare two numbers, or texts that are numbers, or else two texts by their characters; of anything
  else they are false.
- A text that would be longer than MAX_TEXT is cut just beyond it, where every kind of task refuses it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from agentd.model.reading import UNREADABLE, containers_in
from agentd.model.task import Value
from agentd.workflows.expressions import Both, Call, Compare, Either, Expression, Literal, Member, Not, Reference

MAX_TEXT = 1 << 20


class Before(Value, frozen=True, kw_only=True):
    """How what came before has ended, for success(), failure() and cancelled()."""

    success: bool = True
    failure: bool = False
    cancelled: bool = False


class Names(Value, frozen=True, kw_only=True):
    """What the names of an expression stand for."""

    inputs: Mapping[str, Any] = {}
    env: Mapping[str, str] = {}
    matrix: Mapping[str, Any] = {}
    outputs: Mapping[str, Mapping[str, str]] = {}  #: by step
    states: Mapping[str, str] = {}  #: by step
    before: Before = Before()


def evaluate(expression: Expression, names: Names) -> Any:
    """The value: None, a bool, a number, a text, or a list or dict of these."""
    match expression:
        case Literal(value=value):
            return value
        case Reference(path=path):
            return _named(path, names)
        case Call(name=name, arguments=arguments):
            return _called(name, [evaluate(each, names) for each in arguments], names.before)
        case Member(of=of, key=key):
            return _part(evaluate(of, names), evaluate(key, names))
        case Not(of=of):
            return not truth(evaluate(of, names))
        case Compare(operator=operator, left=left, right=right):
            return _compared(operator, evaluate(left, names), evaluate(right, names))
        case Both(of=of):
            for each in of:
                value = evaluate(each, names)
                if not truth(value):
                    break
            return value
        case Either(of=of):
            for each in of:
                value = evaluate(each, names)
                if truth(value):
                    break
            return value


def truth(value: Any) -> bool:
    """Whether a value counts as true."""
    if isinstance(value, float) and math.isnan(value):
        return False
    return not (value is None or value is False or value == "" or (is_number(value) and value == 0))


def is_number(value: Any) -> bool:
    """Whether it is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """The value as text: nothing for null, JSON for lists and objects."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) < 1e16:
            return str(int(value))
        case int() | float():
            return repr(value)
        case _:
            return cut(msgspec.json.encode(value).decode())


def cut(text: str) -> str:
    """The text, or its beginning when it is longer than MAX_TEXT: one character more than that."""
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT + 1]


def _named(path: tuple[str, ...], names: Names) -> Any:
    match path:
        case ("inputs", name):
            return names.inputs.get(name, "")
        case ("env", name):
            return names.env.get(name, "")
        case ("matrix", name):
            return names.matrix.get(name, "")
        case ("steps", step, "outputs", name):
            return names.outputs.get(step, {}).get(name, "")
        case ("steps", step, "state"):
            return names.states.get(step, "")
    return ""


def _called(name: str, given: list[Any], before: Before) -> Any:
    match name, given:
        case "success", _:
            return before.success
        case "failure", _:
            return before.failure
        case "cancelled", _:
            return before.cancelled
        case "contains", [list() as whole, part]:
            return any(_same(each, part) for each in whole)
        case "contains", [whole, part]:
            return shown(part) in shown(whole)
        case "startsWith", [whole, part]:
            return shown(whole).startswith(shown(part))
        case "endsWith", [whole, part]:
            return shown(whole).endswith(shown(part))
        case "format", [form, *values]:
            return _formatted(shown(form), values)
        case "toJSON", [value]:
            return cut(msgspec.json.encode(value).decode())
        case "fromJSON", [value]:
            return _from_json(shown(value))
        case _:  # always()
            return True


def _from_json(text: str) -> Any:
    try:
        value = msgspec.json.decode(text)
    except UNREADABLE:
        return None
    return None if containers_in(value, len(text)) is None else value


_PLACES = re.compile(r"\{\{|\}\}|\{(\d{1,3})\}", re.ASCII)


def _formatted(form: str, values: list[Any]) -> str:
    """`{0}` is the first value; `{{` and `}}` are braces; the number of a value that is not there stays as it is."""
    texts = [shown(value) for value in values]
    found: list[str] = []
    length = at = 0
    for match in _PLACES.finditer(form):
        place = int(match[1]) if match[1] else None
        put = match[0][0] if place is None else texts[place] if place < len(texts) else match[0]
        found += [form[at : match.start()], put]
        length += len(put)
        at = match.end()
        if length > MAX_TEXT:
            break
    return cut("".join([*found, form[at:]]))


def _part(of: Any, key: Any) -> Any:
    match of:
        case dict():
            return of.get(shown(key))
        case list() if (number := _as_number(key)) is not None and number.is_integer() and 0 <= number < len(of):
            return of[int(number)]
    return None


_NUMBER = re.compile(r"\s*-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")


def _as_number(value: Any) -> float | None:
    if is_number(value):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if isinstance(value, str) and len(value) <= 400 and _NUMBER.fullmatch(value):
        return float(value)
    return None


def _same(left: Any, right: Any) -> bool:
    if is_number(left) and is_number(right):
        return bool(left == right)
    if is_number(left) or is_number(right):
        numbers = (_as_number(left), _as_number(right))
        return None not in numbers and numbers[0] == numbers[1]
    if type(left) is not type(right):
        return False
    if isinstance(left, dict | list):
        return msgspec.json.encode(left, order="deterministic") == msgspec.json.encode(right, order="deterministic")
    return bool(left == right)


def _compared(operator: str, left: Any, right: Any) -> bool:
    if operator in ("==", "!="):
        return _same(left, right) == (operator == "==")
    one, other = _as_number(left), _as_number(right)
    if one is not None and other is not None:
        return _ordered(operator, one, other)
    if isinstance(left, str) and isinstance(right, str):
        return _ordered(operator, left, right)
    return False


def _ordered(operator: str, left: Any, right: Any) -> bool:
    match operator:
        case "<":
            return bool(left < right)
        case "<=":
            return bool(left <= right)
        case ">":
            return bool(left > right)
        case _:
            return bool(left >= right)
