"""The colours in force at a place of a text: SGR (ECMA-48 §8.3.117), folded as a terminal does, kept as parameters."""

from __future__ import annotations

import re
from typing import NamedTuple

#: Parameters kept at most, in characters; of more, those set first are left out.
MOST = 64

_SEQUENCE = re.compile(rb"\x1b\[([0-9;:]{0,%d})m" % MOST)
#: A sequence of which the end is yet to come.
_BEGUN = re.compile(rb"\x1b(?:\[[0-9;:]{0,%d})?\Z" % MOST)

#: What each parameter sets; a later one of the same name takes its place.
_SETS: dict[int, str] = {
    1: "bold", 2: "faint", 3: "italic", 4: "underline", 21: "underline", 5: "blink", 6: "blink", 7: "inverse",
    8: "hidden", 9: "strike", 53: "overline", 58: "line colour",
    **dict.fromkeys((*range(30, 39), *range(90, 98)), "text colour"),
    **dict.fromkeys((*range(40, 49), *range(100, 108)), "ground colour"),
}  # fmt: skip
_ENDS: dict[int, tuple[str, ...]] = {
    22: ("bold", "faint"), 23: ("italic",), 24: ("underline",), 25: ("blink",), 27: ("inverse",), 28: ("hidden",),
    29: ("strike",), 39: ("text colour",), 49: ("ground colour",), 55: ("overline",), 59: ("line colour",),
}  # fmt: skip
#: Colours by number or by parts: how many parameters follow 38, 48 or 58 and the one that says which of the two.
_PARTS = {"5": 1, "2": 3}


class Rendition(NamedTuple):
    """What is in force behind a text: `sgr` as in `1;31`, and the escape sequence that the text ends within."""

    sgr: str
    begun: bytes


PLAIN = Rendition("", b"")


def after(before: Rendition, text: bytes) -> Rendition:
    """What is in force behind `text`, if `before` is so in front of it."""
    if not before.begun and b"\x1b" not in text:
        return before  # the same object: a log without colours costs one reference a block
    text = before.begun + text
    begun = _BEGUN.search(text, max(0, len(text) - MOST - 2))
    reset = max(text.rfind(b"\x1b[0m"), text.rfind(b"\x1b[m"))
    found = _SEQUENCE.findall(text, max(0, reset))
    in_force: dict[str, str] = {}
    if reset < 0:
        _apply(in_force, before.sgr)
    # Of equal sequences only the last one counts: it sets again whatever the others did.
    for parameters in reversed(dict.fromkeys(reversed(found))):
        _apply(in_force, parameters.decode() or "0")
    return Rendition(_bounded(in_force), begun[0] if begun else b"")


def _apply(in_force: dict[str, str], parameters: str) -> None:
    given = iter(parameters.split(";") if parameters else ())
    for code in given:
        number = int(code.partition(":")[0] or 0)
        if number in (38, 48, 58) and ":" not in code:
            which = next(given, "")
            rest = [next(given, "") for _ in range(_PARTS.get(which, 0))]
            if not rest:
                continue
            code = ";".join((code, which, *rest))
        if number == 0:
            in_force.clear()
        elif code == "4:0":
            in_force.pop("underline", None)
        elif (name := _SETS.get(number)) is not None:
            in_force.pop(name, None)
            in_force[name] = code
        else:
            for name in _ENDS.get(number, ()):
                in_force.pop(name, None)


def _bounded(in_force: dict[str, str]) -> str:
    while len(text := ";".join(in_force.values())) > MOST:
        del in_force[next(iter(in_force))]
    return text
