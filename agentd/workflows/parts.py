"""Reading parts of a workflow file: a node becomes a value of the type that is wanted, or a problem where it stands."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, NamedTuple

from agentd.workflows.definition import ScalarValue
from agentd.workflows.problems import Problems, named
from agentd.workflows.source import Mapping, Node, Scalar, Sequence, kind_of
from agentd.workflows.templates import CLOSE, OPEN, Template, TemplateError, template

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_NAME = 100
_SURROGATE = re.compile("[\ud800-\udfff]")


class Used(NamedTuple):
    """A template of the file: where its text stands."""

    template: Template
    node: Scalar
    path: str


class Parts:
    """Reads nodes of one text; `used` are the templates that were read since it was emptied."""

    def __init__(self, text: str, problems: Problems) -> None:
        self._text = text
        self.problems = problems
        self.used: list[Used] = []

    def wrong(self, node: Node, path: str, message: str) -> None:
        """A problem at this node."""
        self.problems.add(node.at, path, message)

    def place(self, node: Scalar, n: int, at: int) -> int:
        """Where the character `at` of the expression number `n` of a scalar stands in the file."""
        if self.problems.full:
            return node.at
        begin = node.at
        for _ in range(n + 1):
            found = self._text.find(OPEN, begin, node.end)
            if found < 0:
                return node.at  # written with escapes
            begin = found + len(OPEN)
        return min(begin + at, node.end)

    def mapping(self, node: Node | None, path: str, what: str) -> Mapping | None:
        """Keys and values; None with a problem where it is something else, and without one where it is not there."""
        if isinstance(node, Mapping):
            return node
        if node is not None:
            self.wrong(node, path, f"{what} must be keys and values, not {kind_of(node)}")
        return None

    def items(self, node: Node | None, path: str, what: str) -> list[Node]:
        """The items of a list."""
        if isinstance(node, Sequence):
            return node.items
        if node is not None:
            self.wrong(node, path, f"{what} must be a list, not {kind_of(node)}")
        return []

    def known(self, node: Mapping, keys: Collection[str], path: str, what: str) -> None:
        """Names every key that there is not."""
        for key, at in node.keys.items():
            if key not in keys and isinstance(at.value, str) and key != "<<":
                guess = self.problems.near(key, keys, f"; there are {named(keys, 30)}")
                self.wrong(at, join(path, key), f"{what} has no key {key[:100]}{guess}")

    def words(self, node: Node | None, path: str, what: str, most: int = 100_000) -> str | None:
        """A text without expressions."""
        if node is None:
            return None
        if not isinstance(node, Scalar) or isinstance(node.value, bool) or node.value is None:
            self.wrong(node, path, f"{what} must be a text, not {kind_of(node)}")
        elif OPEN in node.text:
            self.wrong(node, path, f"{what} cannot have expressions: it is fixed before a run")
        elif not 0 < len(node.text) <= most:
            self.wrong(node, path, f"{what} must have 1 to {most} characters")
        elif self._is_text(node, path):
            return node.text
        return None

    def identifier(self, node: Node | None, path: str, what: str, form: re.Pattern[str] = NAME) -> str | None:
        """A name as steps, inputs and outputs have."""
        text = self.words(node, path, what, MAX_NAME)
        if text is not None and node is not None and form.fullmatch(text) is None:
            dash = ", _ and -" if form is NAME else " and _"
            self.wrong(node, path, f"{what} is made of letters, digits{dash}, and does not begin with a digit")
            return None
        return text

    def flag(self, node: Node | None, path: str, what: str) -> bool:
        """true or false; false where it is not there."""
        if isinstance(node, Scalar) and isinstance(node.value, bool):
            return node.value
        if node is not None:
            self.wrong(node, path, f"{what} must be true or false")
        return False

    def scalar(self, node: Node, path: str, what: str) -> ScalarValue:
        """A text, number, true, false or null, without expressions."""
        if not isinstance(node, Scalar):
            self.wrong(node, path, f"{what} must be a text, a number, true or false, not {kind_of(node)}")
            return None
        if OPEN in node.text:
            self.wrong(node, path, f"{what} cannot have expressions: it is fixed before a run")
            return None
        value: ScalarValue = node.value
        return value if self._is_text(node, path) else None

    def templated(self, node: Node, path: str) -> str | Template | None:
        """A text in which expressions may be; None after a problem."""
        if not isinstance(node, Scalar) or node.value is None:
            self.wrong(node, path, f"must be a text, not {kind_of(node)}")
            return None
        return self._template(node, path)

    def tree(self, node: Node, path: str) -> Any:
        """Whatever stands there, with templates for the texts that have expressions."""
        match node:
            case Mapping():
                return {key: self.tree(each, join(path, key)) for key, each in node.entries.items()}
            case Sequence():
                return [self.tree(each, f"{path}[{n}]") for n, each in enumerate(node.items)]
            case Scalar(value=str()):
                return self._template(node, path)
            case Scalar():
                return node.value

    def env(self, node: Node | None, path: str) -> dict[str, Any]:
        """Environment variables; values are texts as they are written, and may have expressions."""
        found: dict[str, Any] = {}
        mapping = self.mapping(node, path, "env")
        for name, value in mapping.entries.items() if mapping else ():
            assert mapping is not None
            here = join(path, name)
            if ENV_NAME.fullmatch(name) is None or len(name) > MAX_NAME:
                self.wrong(mapping.keys[name], here, "a variable is named with letters, digits and _, no digit first")
            elif name.startswith("AGENTD_"):
                self.wrong(mapping.keys[name], here, "variables that begin with AGENTD_ are set by agentd; rename it")
            elif not isinstance(value, Scalar):
                self.wrong(value, here, f"a variable holds a text, not {kind_of(value)}")
            elif (text := self._template(value, here)) is not None:
                found[name] = text
        return found

    def _template(self, node: Scalar, path: str) -> str | Template | None:
        if not self._is_text(node, path):
            return None
        try:
            found = template(node.text)
        except TemplateError as error:
            self.problems.add(self.place(node, error.n, error.at), path, error.message)
            return None
        if isinstance(found, Template):
            self.used.append(Used(found, node, path))
        return found

    def condition(self, node: Node | None, path: str) -> Template | None:
        """What an `if` holds: one expression, with or without `${{ }}`."""
        if node is None:
            return None
        if not isinstance(node, Scalar):
            self.wrong(node, path, f"if must be an expression, not {kind_of(node)}")
            return None
        bare = OPEN not in node.text
        try:
            found = template(f"{OPEN}{node.text}{CLOSE}" if bare else node.text.strip())
        except TemplateError as error:
            at = self._bare(node, error.at) if bare else self.place(node, error.n, error.at)
            self.problems.add(at, path, error.message)
            return None
        assert isinstance(found, Template)
        if len(found.parts) != 1 or isinstance(found.parts[0], str):
            self.wrong(node, path, f"if is one expression; put all of it between {OPEN} and {CLOSE}")
            return None
        self.used.append(Used(found, node, path))
        return found

    def _bare(self, node: Scalar, at: int) -> int:
        begin = self._text.find(node.text.split("\n")[0], node.at, node.end)
        return min(max(begin, node.at) + at, node.end)

    def _is_text(self, node: Scalar, path: str) -> bool:
        if "\0" in node.text or _SURROGATE.search(node.text):
            self.wrong(node, path, "holds a character that no text can: NUL, or half of a surrogate pair")
            return False
        return True


def join(path: str, key: str) -> str:
    """The path of a key: `steps[2].env.NAME`; a long key is cut."""
    return f"{path}.{key[:100]}" if path else key[:100]
