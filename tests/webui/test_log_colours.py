"""One line of a terminal as HTML: what is text stays text, colours are folded as terminals do."""

from __future__ import annotations

import html
import re
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.store import sgr
from webui.logs import ansi

_TAG = re.compile(r'<span class="[a-z0-9 ]+">|</span>')
#: Texts in which escape sequences, whole and broken, are likely.
_ESCAPES = (
    r"\x1b[ \x1b[0m \x1b[1;31m \x1b[38;5;208m \x1b[48;2;1;2;3m \x1b[38:2::9:8:7m \x1b[7m \x1b[m \x1b]8;;x\x07 \x1b]0;t"
    r" \x1bP \x1b\\ \r \t \b \x00 \x7f \x9b \u202e m 3 ; <script> &amp; \" ' \xe9 \U0001f600"
)
_pieces = st.sampled_from([each.encode().decode("unicode_escape") for each in _ESCAPES.split(" ")])
_texts = st.lists(_pieces | st.text(st.characters(blacklist_categories=["Cs"]), max_size=5), max_size=30).map(
    lambda parts: "".join(parts).replace("\n", "")
)
_CODES = "0 1 2 3 4 7 9 21 22 23 24 27 29 30 37 39 40 47 49 90 97 100 38;5;1 48;5;200 38;2;9;8;7 4:0"
_codes = st.sampled_from(re.split(" ", _CODES))
_sgr = st.lists(_codes, min_size=1, max_size=3).map(lambda codes: f"\x1b[{';'.join(codes)}m")


@given(_texts, _sgr)
def test_nothing_of_a_line_becomes_markup(text: str, before: str) -> None:
    shown, _ = ansi.line(text, ansi.after(before))
    rest = _TAG.sub("", shown)
    assert "<" not in rest and ">" not in rest and '"' not in rest
    assert re.fullmatch(r"(?:[^&]|&(?:amp|lt|gt|#34|#39);)*", rest, re.DOTALL)
    assert shown.count("<span") == shown.count("</span>")
    assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e]", rest)


@given(st.lists(st.tuples(_sgr | st.just(""), st.sampled_from(["", "a", "b\r", "\r"])), max_size=20))
def test_the_style_carried_from_line_to_line_is_that_of_the_whole(parts: list[tuple[str, str]]) -> None:
    lines = [escape + text for escape, text in parts]
    style = ansi.PLAIN
    for each in lines:
        _, style = ansi.line(each, style)
    whole = "\n".join(lines)
    assert style == ansi.after(whole)
    kept = sgr.after(sgr.PLAIN, whole.encode()).sgr
    if len(kept) < sgr.MOST:  # the agent's own fold, from which a window's first line begins
        assert style == ansi.applied(ansi.PLAIN, kept)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("10%\r50%\r100%", "100%"),
        ("10%\r100%\r", "100%"),
        ("windows\r", "windows"),
        ("\x1b[32mdone\x1b[0m \x1b[2Kok", '<span class="f2">done</span> ok'),
        ("old\x1b[31m\rnew", '<span class="f1">new</span>'),
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("bell\x07 null\x00 delete\x7f", "bell\u2407 null\u2400 delete\u2421"),
        ("safe\u202eelif", "safe\\u202eelif"),
        ("cut \x1b[38;5", "cut "),
        ("\x1b[1;38;5;196;4mx", '<span class="bo un f1">x</span>'),
        ("\x1b[38;2;250;250;250mx", '<span class="f15">x</span>'),
        ("\x1b[38;5;999mx\x1b[;;mx", "xx"),
    ],
)
def test_what_a_terminal_would_show_is_shown(line: str, shown: str) -> None:
    assert ansi.line(line)[0] == shown


def test_a_line_with_a_colour_for_each_letter_stays_light() -> None:
    shown, style = ansi.line("\x1b[31mx\x1b[32my" * 2000)
    assert shown.count("<span") <= ansi.MAX_RUNS
    assert shown.count("x") == shown.count("y") == 2000
    assert style.text == 2


def test_every_text_colour_can_be_read_on_every_ground_in_both_schemes() -> None:
    css = (files("webui") / "static" / "agentd.css").read_text()
    pair = r"light-dark\((#\w+), (#\w+)\)"
    for scheme in (0, 1):
        texts = [found[scheme] for found in re.findall(rf"--f: {pair}", css)]
        grounds = [found[scheme] for found in re.findall(rf"--b: {pair}", css)]
        assert len(texts) == len(grounds) == 16
        grounds += [found[scheme] for found in re.findall(rf"--(?:page|raised): {pair}", css)]
        texts += [found[scheme] for found in re.findall(rf"--(?:text|quiet): {pair}", css)]
        assert min(_contrast(text, ground) for text in texts for ground in grounds) >= 4.5


def _contrast(one: str, other: str) -> float:
    """As WCAG 2.2 defines it."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(each * 2 for each in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_text_reads_the_same_as_it_was_written() -> None:
    text = "a <b> & \"c\" 'd' \té\U0001f600"
    assert html.unescape(ansi.line(text)[0]) == text


@given(st.text(max_size=12))
def test_colours_that_an_agent_says_are_none_at_worst(said: str) -> None:
    assert ansi.line("text", ansi.applied(ansi.PLAIN, said))[0]


def test_what_is_no_number_in_the_colours_of_an_agent_counts_as_none() -> None:
    assert ansi.applied(ansi.PLAIN, "a;1;\x00\ud7ff") == ansi.applied(ansi.PLAIN, "0;1;0")
