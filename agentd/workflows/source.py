"""YAML as a tree that knows where each of its parts stands in the text, within bounds.

Built from the parser's events, so that neither depth nor aliases can cost more than the bounds allow.

Plain scalars are read as people write them, not as YAML 1.1 has them: `true`, `false`, `null` (in small letters,
capitalized or in capitals, `~` and nothing for null) and numbers are those; yes, no, on and off are texts. A number is
one only if it is written as it would be shown: 3 and 3.11 are numbers, but 3.10, 012, 1e3, 0x1f and 1_000 are the texts
that they are.
"""

from __future__ import annotations

import re
from typing import Any

from agentd.workflows.problems import Problems

MAX_BYTES = 1 << 20
MAX_NODES = 50_000  #: aliases counted as what they stand for
MAX_DEPTH = 32

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("null", "Null", "NULL", "~", "")),
}
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,17})(?:\.\d{1,17})?", re.ASCII)


class Node:
    """A part of the text: from the character `at` to before `end`."""

    def __init__(self, at: int, end: int) -> None:
        self.at = at
        self.end = end
        self.size = 1  #: nodes that it is made of
        self.depth = 1  #: of the deepest of them


class Scalar(Node):
    """A text, number, true, false or null: `value`. `text` is how it is written."""

    def __init__(self, at: int, end: int, text: str, plain: bool) -> None:
        super().__init__(at, end)
        self.text = text
        self.value: Any = scalar_value(text) if plain else text


class Sequence(Node):
    """A list."""

    def __init__(self, at: int, end: int) -> None:
        super().__init__(at, end)
        self.items: list[Node] = []


class Mapping(Node):
    """Keys and values, in the order of the text; `keys` has where each key stands."""

    def __init__(self, at: int, end: int) -> None:
        super().__init__(at, end)
        self.entries: dict[str, Node] = {}
        self.keys: dict[str, Scalar] = {}


def scalar_value(text: str) -> Any:
    """What a plain scalar stands for."""
    if text in _WORDS:
        return _WORDS[text]
    if _NUMBER.fullmatch(text) is None:
        return text
    number: int | float = float(text) if "." in text else int(text)
    return number if str(number) == text and not text.endswith(".0") else text


def kind_of(node: Node) -> str:
    """What a node is, for a sentence."""
    match node:
        case Mapping():
            return "keys and values"
        case Sequence():
            return "a list"
        case Scalar(value=None):
            return "nothing"
        case Scalar(value=bool()):
            return "true or false"
        case Scalar(value=int() | float()):
            return "a number"
        case _:
            return "a text"


def decoded(raw: bytes | str) -> str:
    """The text, with lines that end in \\n and without a byte order mark.

    Raises:
        WorkflowInvalid: it is not UTF-8, or too large.
    """
    if len(raw) > MAX_BYTES:
        problems = Problems("")
        problems.add(
            0, "", f"the workflow is larger than {MAX_BYTES >> 20} MiB; put long texts into files that steps read"
        )
        raise problems.error()
    try:
        text = raw.decode() if isinstance(raw, bytes) else raw.encode().decode()
    except UnicodeError as error:
        before = raw[: error.start] if isinstance(error, UnicodeDecodeError | UnicodeEncodeError) else raw[:0]
        text = before.decode() if isinstance(before, bytes) else before
        problems = Problems(text)
        problems.add(len(text), "", "is not UTF-8 from here on; save the file as UTF-8")
        raise problems.error() from None
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def parsed(text: str, problems: Problems) -> Node:
    """The tree of the one document in the text.

    Raises:
        WorkflowInvalid: it is not YAML, or over a bound; what is wrong without being in the way is in `problems`.
    """
    import yaml  # here: a daemon that runs no workflow does not carry it

    composer = _Composer(problems)
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            composer.take(event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        said = [getattr(error, "context", None), getattr(error, "problem", None) or getattr(error, "reason", None)]
        at = mark.index if mark is not None else getattr(error, "position", 0)
        problems.add(at, "", f"is not YAML: {' '.join(filter(None, said)) or type(error).__name__}")
        raise problems.error() from None
    if composer.root is None:
        problems.add(0, "", "the file is empty; a workflow has at least `steps:`")
        raise problems.error()
    return composer.root


class _Composer:
    """Makes nodes of events, one after the other, without recursion."""

    def __init__(self, problems: Problems) -> None:
        self.root: Node | None = None
        self._problems = problems
        self._open: list[Node] = []
        self._keys: list[Scalar | None] = []  #: of each open node, the key that waits for its value
        self._anchors: dict[str, Node | None] = {}  #: None while the node is not whole
        self._names: list[str | None] = []  #: anchors of the open nodes
        self._nodes = 0
        self._documents = 0

    def take(self, event: Any) -> None:
        """The next event.

        Raises:
            WorkflowInvalid: a bound is passed, or something that workflows do not have.
        """
        at, end = event.start_mark.index, event.end_mark.index
        match type(event).__name__:
            case "DocumentStartEvent":
                self._documents += 1
                if self._documents > 1:
                    self._refuse(at, "a second document begins here; a file holds one workflow")
            case "ScalarEvent":
                self._check_tag(event, "!!str")
                plain = event.implicit[0]  # of `!!str 3` it is not
                self._put(Scalar(at, end, event.value, plain), event.anchor)
            case "SequenceStartEvent":
                self._check_tag(event, "!!seq")
                self._enter(Sequence(at, end), event.anchor)
            case "MappingStartEvent":
                self._check_tag(event, "!!map")
                self._enter(Mapping(at, end), event.anchor)
            case "SequenceEndEvent" | "MappingEndEvent":
                node, name = self._open.pop(), self._names.pop()
                self._keys.pop()
                node.end = at
                self._put(node, name)
            case "AliasEvent":
                self._alias(event.anchor, at)

    def _check_tag(self, event: Any, allowed: str) -> None:
        if event.tag not in (None, "!", "tag:yaml.org,2002:" + allowed[2:]):
            self._refuse(
                event.start_mark.index,
                f"the tag {event.tag[:60]} is not read here; leave it out, or quote a text that begins with !",
            )

    def _enter(self, node: Node, anchor: str | None) -> None:
        if len(self._open) >= MAX_DEPTH:
            self._refuse(node.at, f"is nested more than {MAX_DEPTH} deep")
        if self._open and isinstance(self._open[-1], Mapping) and self._keys[-1] is None:
            self._refuse(node.at, "a key must be a text")
        self._open.append(node)
        self._keys.append(None)
        self._names.append(anchor)
        if anchor is not None:
            self._anchors[anchor] = None

    def _alias(self, name: str, at: int) -> None:
        if name not in self._anchors:
            self._refuse(at, f"*{name} stands for nothing: no &{name} is above")
        node = self._anchors[name]
        if node is None:
            self._refuse(at, f"*{name} is within what it stands for")
        assert node is not None
        self._put(node, None, alias=at)

    def _put(self, node: Node, anchor: str | None, *, alias: int | None = None) -> None:
        self._count(node, alias)
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            self.root = node
            return
        outer = self._open[-1]
        outer.size += node.size
        outer.depth = max(outer.depth, node.depth + 1)
        if isinstance(outer, Sequence):
            outer.items.append(node)
        elif isinstance(outer, Mapping):
            key, self._keys[-1] = self._keys[-1], None
            if key is not None:
                outer.entries.setdefault(key.text, node)
            elif isinstance(node, Scalar):
                self._keys[-1] = node
                self._check_key(outer, node)
            else:
                self._refuse(node.at, "a key must be a text")

    def _count(self, node: Node, alias: int | None) -> None:
        at = node.at if alias is None else alias
        self._nodes += 1 if alias is None else node.size  # what is within a new node was counted when it came
        if self._nodes > MAX_NODES:
            self._refuse(at, f"the workflow has more than {MAX_NODES} parts, aliases counted as what they stand for")
        if alias is not None and len(self._open) + node.depth > MAX_DEPTH:
            self._refuse(at, f"is nested more than {MAX_DEPTH} deep")

    def _check_key(self, outer: Mapping, key: Scalar) -> None:
        if not isinstance(key.value, str):
            self._problems.add(key.at, "", f'the key {key.text or "(nothing)"} is not a text; write "{key.text}"')
        elif key.text == "<<":
            self._problems.add(key.at, "", "merge keys (<<) are not read here; write the keys out")
        elif key.text in outer.keys:
            self._problems.add(key.at, "", f"the key {key.text[:100]} is here twice; keep one")
            return
        outer.keys[key.text] = key

    def _refuse(self, at: int, message: str) -> None:
        self._problems.add(at, "", message)
        raise self._problems.error()
