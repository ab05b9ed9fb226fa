"""Lines out of a stream of bytes, and fields out of JSON that may be anything; memory is bounded whatever comes."""

from __future__ import annotations

from typing import Any

import msgspec

from agentd.model.reading import UNREADABLE

#: A longer line is skipped, in bytes.
LINE_MOST = 1 << 20
#: Text of one event that is kept, in characters; the last words may be longer.
SUMMARY_MOST = 200


class Lines:
    """Splits a stream. `skipped` counts the lines that were longer than `most` bytes."""

    def __init__(self, most: int = LINE_MOST) -> None:
        self.skipped = 0
        self._most = most
        self._rest = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that end in this piece, without their ends and without empty ones."""
        found = []
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._keep(piece)
            if not self._skipping and self._rest.strip():
                found.append(bytes(self._rest))
            self._rest.clear()
            self._skipping = False
        self._keep(rest)
        return found

    def end(self) -> list[bytes]:
        """The last line, if it has no end."""
        return self.feed(b"\n")

    def _keep(self, piece: bytes) -> None:
        if self._skipping:
            return
        if len(self._rest) + len(piece) > self._most:
            self._skipping = True
            self.skipped += 1
            self._rest.clear()
        else:
            self._rest += piece


class Fields:
    """A JSON value of which nothing is sure: what is not there, or not of the type asked for, is empty."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __getitem__(self, name: str) -> Fields:
        return Fields(self.value.get(name)) if isinstance(self.value, dict) else Fields(None)

    @property
    def text(self) -> str:
        """A string."""
        return self.value if isinstance(self.value, str) else ""

    @property
    def number(self) -> float | None:
        """A number that is none of the special ones."""
        number = self.value
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) < 1e18:
            return None
        return number

    @property
    def count(self) -> int:
        """A number of things, 0 when there is none."""
        number = self.number
        return max(0, int(number)) if number is not None else 0

    @property
    def object(self) -> dict[str, Any]:
        """An object."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Fields]:
        """The items of an array."""
        return [Fields(each) for each in self.value] if isinstance(self.value, list) else []


def json_object(line: bytes) -> Fields | None:
    """The object that a line holds; None when it holds none."""
    try:
        value = msgspec.json.decode(line)
    except UNREADABLE:
        return None
    return Fields(value) if isinstance(value, dict) else None


def summary(text: str) -> str:
    """One short line of it."""
    line = " ".join(text[: 4 * SUMMARY_MOST].split())
    return line if len(line) <= SUMMARY_MOST else line[: SUMMARY_MOST - 1] + "…"


def call_summary(arguments: Fields) -> str:
    """What a tool is called with, in a line: the argument that says most."""
    for name in ("command", "cmd", "file_path", "filePath", "path", "pattern", "url", "query", "description", "prompt"):
        if text := arguments[name].text:
            return summary(text)
    return summary(" ".join(f"{name}={value}" for name, value in list(arguments.object.items())[:4] if value))
