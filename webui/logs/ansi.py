"""One line of a terminal's output as safe HTML: colours become classes, everything else is text or left out.

SGR sequences (ECMA-48 §8.3.117) are folded as terminals do; other escape sequences are left out, control characters
are shown by their pictures, and of a progress line (`\\r`) only what a terminal would show last.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from markupsafe import Markup

#: Runs of one look in a line; what comes after these has one look: no line makes a page heavy.
MAX_RUNS = 200

BOLD, DIM, ITALIC, UNDERLINE, INVERSE, STRIKE = (1 << n for n in range(6))
_MARKS = {BOLD: "bo", DIM: "di", ITALIC: "it", UNDERLINE: "un", INVERSE: "in", STRIKE: "st"}


class Style(NamedTuple):
    """How text looks: colours 0 to 15 of a terminal's palette, -1 for the page's own, and marks as bits."""

    text: int = -1
    ground: int = -1
    marks: int = 0


PLAIN = Style()

#: What is not plain text: SGR; other sequences, whole, or the beginning of one at the end; control characters; those
#: that would reorder what is read (the bidirectional controls of Unicode).
_SPECIAL = re.compile(
    r"\x1b\[(?P<sgr>[0-9;:]*)m"
    r"|(?P<gone>\x1b\[[0-?]*[ -/]*(?:[@-~]|\Z)"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x1b[PX^_][^\x1b]*\x1b\\"
    r"|\x1b[ -/]*(?:[0-~]|\Z))"
    r"|(?P<control>[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069])"
)
_SGR = re.compile(r"\x1b\[([0-9;:]*)m")
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;"})


def line(text: str, style: Style = PLAIN, most_runs: int = MAX_RUNS) -> tuple[Markup, Style]:
    """The HTML of a line without its line feed, and the style that the next line begins with."""
    if style == PLAIN and _SPECIAL.search(text) is None:
        return Markup(text.translate(_ESCAPES)), PLAIN  # noqa: S704 - escaped
    if "\r" in text:
        hidden, text = _last_shown(text)
        style = after(hidden, style)
    parts: list[str] = []
    at, left = 0, most_runs
    begun = PLAIN  # the look of the span that is open
    for found in _SPECIAL.finditer(text):
        if not left:
            break
        if found.start() > at:
            begun, left = _turn(parts, begun, style, left)
            parts.append(text[at : found.start()].translate(_ESCAPES))
        at = found.end()
        if found["sgr"] is not None:
            style = applied(style, found["sgr"])
        elif found["control"] is not None:
            begun, left = _turn(parts, begun, style, left)
            parts.append(_picture(found["control"]))
    if at < len(text):
        begun, _ = _turn(parts, begun, style, left)
        parts.append(_bare(text[at:]).translate(_ESCAPES))
        style = after(text[at:], style)
    if begun != PLAIN:
        parts.append("</span>")
    return Markup("".join(parts)), style  # noqa: S704 - escaped


def lines(text: str, most: int) -> tuple[Markup, bool]:
    """The HTML of the first lines of a text, and whether there are more."""
    found = text.split("\n", most)
    rows: list[Markup] = []
    style = PLAIN
    for each in found[:most]:
        row, style = line(each.removesuffix("\r"), style)
        rows.append(row)
    return Markup("\n").join(rows), len(found) > most


def after(text: str, style: Style = PLAIN) -> Style:
    """The style behind a text."""
    # Of equal sequences only the last counts: it sets again whatever the others did.
    for parameters in reversed(dict.fromkeys(reversed(_SGR.findall(text)))):
        style = applied(style, parameters)
    return style


@lru_cache(maxsize=4096)
def applied(style: Style, parameters: str) -> Style:
    """The style after the parameters of one SGR sequence, as in `1;31`; none at all means 0."""
    text, ground, marks = style
    given = iter(parameters.split(";"))
    for code in given:
        number = _number(code.partition(":")[0])
        if number in (38, 48, 58):
            colour = _extended(code.split(":")[1:] if ":" in code else _following(given))
            if colour is not None and number == 38:
                text = colour
            elif colour is not None and number == 48:
                ground = colour
        elif number == 0:
            text, ground, marks = PLAIN
        elif 30 <= number <= 37 or 90 <= number <= 97:
            text = number - 30 if number < 90 else number - 82
        elif 40 <= number <= 47 or 100 <= number <= 107:
            ground = number - 40 if number < 100 else number - 92
        elif number == 39:
            text = -1
        elif number == 49:
            ground = -1
        elif code == "4:0":
            marks &= ~UNDERLINE
        else:
            marks = (marks & ~_ENDS.get(number, 0)) | _SETS.get(number, 0)
    return Style(text, ground, marks)


_SETS = {1: BOLD, 2: DIM, 3: ITALIC, 4: UNDERLINE, 21: UNDERLINE, 7: INVERSE, 9: STRIKE}
_ENDS = {22: BOLD | DIM, 23: ITALIC, 24: UNDERLINE, 27: INVERSE, 29: STRIKE}


def _number(text: str) -> int:
    return int(text) if len(text) < 5 and text.isdecimal() else 0


def _following(given: object) -> list[str]:
    """The parameters that belong to a 38, 48 or 58 before them."""
    which = next(given, "")  # type: ignore[call-overload]
    more = {"5": 1, "2": 3}.get(which, 0)
    return [which, *(next(given, "") for _ in range(more))]  # type: ignore[call-overload]


def _extended(parts: list[str]) -> int | None:
    """The colour of the palette that comes nearest to one given by number or by its red, green and blue."""
    if parts[:1] == ["5"] and len(parts) > 1:
        return _of_256(_number(parts[1]))
    if parts[:1] == ["2"] and len(parts) > 3:
        red, green, blue = (min(_number(each), 255) for each in parts[-3:])  # a colour space may stand before them
        return nearest(red, green, blue)
    return None


def _of_256(number: int) -> int | None:
    if number < 16:
        return number
    if number < 232:
        steps = (0, 95, 135, 175, 215, 255)
        number -= 16
        return nearest(steps[number // 36], steps[number // 6 % 6], steps[number % 6])
    return nearest(*[8 + 10 * (number - 232)] * 3) if number < 256 else None


def nearest(red: int, green: int, blue: int) -> int:
    """The colour 0 to 15 of the hue and brightness of another: what is shown is the palette, which can be read."""
    most, least = max(red, green, blue), min(red, green, blue)
    if most - least < 40:
        return 0 if most < 60 else 8 if most < 140 else 7 if most < 220 else 15
    bar = (most + least) / 2
    hue = (red > bar) | (green > bar) << 1 | (blue > bar) << 2
    return hue + 8 if most > 215 and least > 60 else hue


def _turn(parts: list[str], begun: Style, style: Style, left: int) -> tuple[Style, int]:
    """End the span that is open and begin one of this style, if it is another."""
    if style == begun or not left:
        return begun, left
    if begun != PLAIN:
        parts.append("</span>")
    if style != PLAIN:
        parts.append(f'<span class="{_classes(style)}">')
    return style, left - 1


@lru_cache(maxsize=1024)
def _classes(style: Style) -> str:
    found = [name for mark, name in _MARKS.items() if style.marks & mark]
    if style.text >= 0:
        found.append(f"f{style.text}")
    if style.ground >= 0:
        found.append(f"b{style.ground}")
    return " ".join(found)


def _picture(control: str) -> str:
    code = ord(control)
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _bare(text: str) -> str:
    """The text without its escape sequences, control characters shown."""
    return _SPECIAL.sub(lambda found: _picture(found["control"]) if found["control"] else "", text)


def _last_shown(text: str) -> tuple[str, str]:
    """What a carriage return has overwritten, and what is left: the last part that has something to show."""
    end = len(text.rstrip("\r"))
    while (cut := text.rfind("\r", 0, end)) >= 0:
        part = text[cut + 1 : end]
        if _SPECIAL.sub("", part):
            break
        end = cut
    rest = "".join(f"\x1b[{parameters}m" for parameters in _SGR.findall(text, end))
    return text[: cut + 1], text[cut + 1 : end] + rest
