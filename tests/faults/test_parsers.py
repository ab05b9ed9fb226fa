"""Layer `parsers` in its short form: what each takes, and that cut, doubled, spoiled and joined, by hypothesis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from faultlib.parser_table import DEEP, Parser, parsers

TABLE = parsers()
#: What JSON, YAML, headers and terminals give a meaning to.
SPOILERS = [b"", b'"', b"{", b"]", b"\\", b"\0", b"\xff", b"\n", b"\r", b",", b"null", b"-1", b"1e999", b"9" * 30]
SPOILERS += [b"\\ud800", b"\xe2\x80\xae", b'""', b"%", b"=", b"\x1b[", b"[" * 3000, DEEP]


@st.composite
def spoiled(draw: st.DrawFn, examples: tuple[bytes, ...]) -> bytes:
    """Bytes that are nearly what a parser takes."""
    text = draw(st.sampled_from(examples))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from([0, 0, 1, 2, 8, 40])))
        text = text[:start] + draw(st.sampled_from(SPOILERS) | st.binary(max_size=6)) + text[end:]
    return text


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What is refused is logged, a line for each example."""
    structlog.configure(processors=[_dropped])
    yield
    structlog.reset_defaults()


def _dropped(*_: object) -> dict[str, object]:
    raise structlog.DropEvent


@pytest.mark.parametrize("parser", TABLE.values(), ids=TABLE)
def test_a_parser_refuses_by_its_own_errors_alone(parser: Parser) -> None:
    for example in parser.examples:
        parser.run(example)

    @settings(max_examples=40)
    @given(spoiled(parser.examples) | st.binary(max_size=200))
    def any_bytes(text: bytes) -> None:
        parser.run(text)

    any_bytes()


def test_the_table_knows_each_target_by_one_name_and_an_example() -> None:
    assert len(TABLE) > 40
    assert all(any(parser.examples) for parser in TABLE.values())
