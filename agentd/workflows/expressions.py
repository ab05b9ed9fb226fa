"""The language between `${{` and `}}`: a text becomes a tree, or an error that says where.

literals    'text' (a quote is written twice), 12, -1.5, true, false, null
names       inputs.NAME  env.NAME  matrix.NAME  steps.ID.outputs.NAME  steps.ID.state
operators   ||  &&  == != < <= > >=  !  ( )  .name and [key] into what fromJSON() gives; the first bind least
functions   FUNCTIONS
"""

from __future__ import annotations

from typing import NoReturn, TypeAlias

from agentd.model.task import Value
from agentd.workflows.tokens import ExpressionError, Token, number, tokens

MAX_LENGTH = 4096
MAX_DEPTH = 32

#: How many arguments each function takes, at least and at most.
FUNCTIONS = {
    "success": (0, 0),
    "failure": (0, 0),
    "always": (0, 0),
    "cancelled": (0, 0),
    "contains": (2, 2),
    "startsWith": (2, 2),
    "endsWith": (2, 2),
    "format": (1, 50),
    "fromJSON": (1, 1),
    "toJSON": (1, 1),
}
#: Those that ask how what came before has ended: an `if` with one of them is not held to success() as well.
STATUS_FUNCTIONS = frozenset({"success", "failure", "always", "cancelled"})
CONTEXTS = ("inputs", "env", "steps", "matrix")
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


class Literal(Value, frozen=True, kw_only=True, tag=True):
    """A value that stands there."""

    value: str | int | float | bool | None


class Reference(Value, frozen=True, kw_only=True, tag=True):
    """A name: `("steps", "fetch", "outputs", "file")`. `at` is where it begins, within the expression."""

    path: tuple[str, ...]
    at: int


class Call(Value, frozen=True, kw_only=True, tag=True):
    """A function and what it is given."""

    name: str
    arguments: tuple[Expression, ...]


class Member(Value, frozen=True, kw_only=True, tag=True):
    """A part of an object or a list."""

    of: Expression
    key: Expression


class Not(Value, frozen=True, kw_only=True, tag=True):
    """`!x`."""

    of: Expression


class Compare(Value, frozen=True, kw_only=True, tag=True):
    """`left operator right`."""

    operator: str
    left: Expression
    right: Expression


class Both(Value, frozen=True, kw_only=True, tag=True):
    """`a && b && …`: the first that is false, else the last."""

    of: tuple[Expression, ...]


class Either(Value, frozen=True, kw_only=True, tag=True):
    """`a || b || …`: the first that is true, else the last."""

    of: tuple[Expression, ...]


Expression: TypeAlias = Literal | Reference | Call | Member | Not | Compare | Both | Either


def parse(text: str) -> Expression:
    """The tree of the expression.

    Raises:
        ExpressionError: it is none.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(0, f"the expression is longer than {MAX_LENGTH} characters")
    return _Parser(text).whole()


def parts_of(expression: Expression) -> list[Expression]:
    """The expression and all within it."""
    found, todo = [], [expression]
    while todo:
        each = todo.pop()
        found.append(each)
        match each:
            case Call(arguments=inner) | Both(of=inner) | Either(of=inner):
                todo.extend(inner)
            case Member(of=of, key=key):
                todo += [of, key]
            case Not(of=of):
                todo.append(of)
            case Compare(left=left, right=right):
                todo += [left, right]
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = tokens(text)
        self._next = 0
        self._depth = 0

    def whole(self) -> Expression:
        if self._ahead.kind == "end":
            self._fail("the expression is empty")
        found = self._either()
        if self._ahead.kind != "end":
            self._fail(f"{self._ahead.text[:50]} is not expected here")
        return found

    @property
    def _ahead(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._ahead
        self._next += token.kind != "end"
        return token

    def _taken(self, *signs: str) -> str | None:
        if self._ahead.kind == "sign" and self._ahead.text in signs:
            return self._take().text
        return None

    def _expect(self, sign: str, why: str) -> None:
        if self._taken(sign) is None:
            self._fail(f"{sign} is missing here, {why}")

    def _fail(self, message: str, at: int | None = None) -> NoReturn:
        raise ExpressionError(self._ahead.at if at is None else at, message)

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"the expression is nested more than {MAX_DEPTH} deep")

    def _either(self) -> Expression:
        found = [self._both()]
        while self._taken("||"):
            found.append(self._both())
        return found[0] if len(found) == 1 else Either(of=tuple(found))

    def _both(self) -> Expression:
        found = [self._comparison()]
        while self._taken("&&"):
            found.append(self._comparison())
        return found[0] if len(found) == 1 else Both(of=tuple(found))

    def _comparison(self) -> Expression:
        left = self._unary()
        if (operator := self._taken(*COMPARISONS)) is None:
            return left
        found = Compare(operator=operator, left=left, right=self._unary())
        if self._ahead.kind == "sign" and self._ahead.text in COMPARISONS:
            self._fail("comparisons do not chain; join them with &&")
        return found

    def _unary(self) -> Expression:
        if self._taken("!") is None:
            return self._member()
        self._deeper()
        found = Not(of=self._unary())
        self._depth -= 1
        return found

    def _member(self) -> Expression:
        found = self._primary()
        parts = 0
        while (sign := self._taken(".", "[")) is not None:
            parts += 1
            if parts > MAX_DEPTH:
                self._fail(f"more than {MAX_DEPTH} parts of parts")
            if sign == "[":
                self._deeper()
                key = self._either()
                self._depth -= 1
                self._expect("]", "to close the [")
            elif self._ahead.kind == "name":
                key = Literal(value=self._take().text)
            else:
                self._fail("a name follows the dot")
            found = Member(of=found, key=key)
        return found

    def _primary(self) -> Expression:
        token = self._take()
        match token.kind:
            case "text":
                return Literal(value=token.text[1:-1].replace("''", "'"))
            case "number":
                return Literal(value=number(token))
            case "name":
                return self._named(token)
            case "end":
                self._fail("the expression ends where a value is expected", token.at)
        if token.text != "(":
            self._fail(f"a value is expected, not {token.text}", token.at)
        self._deeper()
        found = self._either()
        self._depth -= 1
        self._expect(")", "to close the (")
        return found

    def _named(self, token: Token) -> Expression:
        name = token.text
        if name in ("true", "false", "null"):
            return Literal(value={"true": True, "false": False, "null": None}[name])
        if self._taken("("):
            return self._call(token)
        if name in FUNCTIONS:
            self._fail(f"call it: {name}()", token.at)
        if name not in CONTEXTS:
            self._fail(f"{name[:50]} is not known; there are {', '.join(CONTEXTS)}, and texts stand in '…'", token.at)
        path = [name]
        forms = {"steps": "steps.ID.outputs.NAME or steps.ID.state"}
        while len(path) < (2 if name != "steps" else 3 if path[2:] == ["state"] else 4):
            if not self._taken("."):
                self._fail(f"write {forms.get(name, f'{name}.NAME')}", token.at)
            if self._ahead.kind != "name":
                self._fail("a name follows the dot")
            path.append(self._take().text)
            if name == "steps" and len(path) == 3 and path[2] not in ("outputs", "state"):
                self._fail(f"a step has outputs and state; write {forms[name]}", token.at)
        return Reference(path=tuple(path), at=token.at)

    def _call(self, token: Token) -> Expression:
        if token.text not in FUNCTIONS:
            self._fail(f"there is no function {token.text[:50]}; there are {', '.join(FUNCTIONS)}", token.at)
        self._deeper()
        arguments: list[Expression] = []
        while not self._taken(")"):
            if arguments:
                self._expect(",", "between two arguments, or ) after the last")
            arguments.append(self._either())
        self._depth -= 1
        least, most = FUNCTIONS[token.text]
        if not least <= len(arguments) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            self._fail(f"{token.text}() takes {wanted} arguments, not {len(arguments)}", token.at)
        return Call(name=token.text, arguments=tuple(arguments))
