"""Texts with expressions in them: `dist/${{ inputs.package }}.whl`.

A text that is one expression and nothing else keeps the type of what it comes to; otherwise it is put in as text. A
`${{` that shall stay is written `${{ '${{' }}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from agentd.model.task import Value
from agentd.workflows.evaluation import MAX_TEXT, Names, cut, evaluate, shown
from agentd.workflows.expressions import Expression, parse
from agentd.workflows.tokens import ExpressionError

OPEN, CLOSE = "${{", "}}"
#: What the texts of one spec may come to, in characters: more than any kind of task takes.
MAX_SPEC_TEXT = 4 << 20


class Template(Value, frozen=True, kw_only=True):
    """Texts and expressions by turns."""

    parts: tuple[str | Expression, ...]

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """Those in it, in order."""
        return tuple(each for each in self.parts if not isinstance(each, str))


class TemplateError(Exception):
    """The expression number `n` of a text cannot be read: `message`, `at` that character after its `${{`."""

    def __init__(self, n: int, at: int, message: str) -> None:
        super().__init__(message)
        self.n = n
        self.at = at
        self.message = message


_CLOSING = re.compile(r"(?:[^'}]|'(?:[^']|'')*'|\}(?!\}))*+\}\}")  # `}}` within a text of the expression does not count


def template(text: str) -> str | Template:
    """The text itself when it has no expressions.

    Raises:
        TemplateError: one of them cannot be read.
    """
    if OPEN not in text:
        return text
    parts: list[str | Expression] = []
    at = n = 0
    while (begin := text.find(OPEN, at)) >= 0:
        inner = begin + len(OPEN)
        closing = _CLOSING.match(text, inner)
        end = closing.end() - len(CLOSE) if closing else text.find(CLOSE, inner)
        if end < 0:
            raise TemplateError(n, -len(OPEN), "this expression has no end; close it with }}")
        if begin > at:
            parts.append(text[at:begin])
        try:
            parts.append(parse(text[inner:end]))
        except ExpressionError as error:
            raise TemplateError(n, error.at, error.message) from None
        at = end + len(CLOSE)
        n += 1
    if at < len(text):
        parts.append(text[at:])
    return Template(parts=tuple(parts))


def templates_in(tree: Any) -> Iterator[Template]:
    """Those of a tree of dicts, lists and values."""
    match tree:
        case Template():
            yield tree
        case dict():
            for each in tree.values():
                yield from templates_in(each)
        case list() | tuple():
            for each in tree:
                yield from templates_in(each)


class Rendering:
    """Puts values in the place of expressions, of one spec: all its texts together are bounded."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._left = MAX_SPEC_TEXT

    def value(self, tree: Any) -> Any:
        """The tree with every template resolved."""
        match tree:
            case Template():
                return self._resolved(tree)
            case dict():
                return {key: self.value(each) for key, each in tree.items()}
            case list() | tuple():
                return [self.value(each) for each in tree]
            case _:
                return tree

    def text(self, tree: Any) -> str:
        """What a scalar or a template comes to, as text."""
        return shown(self.value(tree))

    def _resolved(self, found: Template) -> Any:
        first = found.parts[0]
        if len(found.parts) == 1 and not isinstance(first, str):
            value = evaluate(first, self._names)
            self._left -= len(shown(value))
            return value if self._left > 0 else ""
        texts: list[str] = []
        length = 0
        for part in found.parts:
            texts.append(part if isinstance(part, str) else shown(evaluate(part, self._names)))
            length += len(texts[-1])
            if length > min(MAX_TEXT, self._left):
                break
        self._left -= length
        return cut("".join(texts)) if self._left > 0 else ""
