"""The words of which expressions are made."""

from __future__ import annotations

import re
from typing import NamedTuple


class ExpressionError(Exception):
    """An expression cannot be read: `message`, at the character `at` (0-based) of it."""

    def __init__(self, at: int, message: str) -> None:
        super().__init__(message)
        self.at = at
        self.message = message


class Token(NamedTuple):
    """A word of an expression, and where it begins."""

    kind: str  #: text, number, name, sign, end
    text: str
    at: int


_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.]))"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_-]*)|(?P<sign>==|!=|<=|>=|&&|\|\||[<>!().,\[\]]))"
)


def tokens(text: str) -> list[Token]:
    """The words of an expression, and one `end`.

    Raises:
        ExpressionError: something in it is no word.
    """
    found: list[Token] = []
    at = 0
    while True:
        match = _TOKEN.match(text, at)
        if match is None:
            rest = text[at:].lstrip()
            at = len(text) - len(rest)
            if not rest:
                return [*found, Token("end", "", len(text))]
            raise ExpressionError(at, _unreadable(rest))
        kind = match.lastgroup or ""
        found.append(Token(kind, match[kind], match.start(kind)))
        at = match.end()


def _unreadable(rest: str) -> str:
    match rest[0]:
        case "'":
            return "this text has no end; close it with '"
        case '"':
            return "texts are written in single quotes"
        case "=":
            return "compare with =="
        case "&" | "|":
            return f"write {rest[0] * 2}"
        case letter if letter.isdigit() or letter == "-":
            return "this is no number"
        case letter:
            return f"{letter!r} has no meaning here"


def number(token: Token) -> int | float:
    """What a word of digits stands for.

    Raises:
        ExpressionError: it is too long.
    """
    if len(token.text) > 18:
        raise ExpressionError(token.at, "the number has more than 18 characters")
    return int(token.text) if token.text.lstrip("-").isdigit() else float(token.text)
