"""What is wrong with a workflow file, all of it at once: where, and what to do about it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection
from difflib import get_close_matches

from agentd.errors import SourceProblem, WorkflowInvalid

#: Problems that are told; what is beyond is counted.
MOST = 100
#: Problems that come with a guess of what was meant: guessing among 500 names takes a while.
_GUESSES = 20


class Problems:
    """The problems found in one text, in the order of the text when they are raised."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(at + 1 for at, letter in enumerate(text) if letter == "\n")]
        self._found: list[SourceProblem] = []
        self._beyond = 0
        self._guesses = 0

    def __len__(self) -> int:
        return len(self._found) + self._beyond

    @property
    def full(self) -> bool:
        """Whether what is added now is only counted."""
        return len(self._found) >= MOST

    def line(self, at: int) -> int:
        """The line, from 1, of this character (0-based) of the text."""
        return bisect_right(self._starts, max(at, 0))

    def add(self, at: int, path: str, message: str) -> None:
        """A problem at this character (0-based) of the text."""
        if self.full:  # those are the first of each stage of the reading
            self._beyond += 1
            return
        line = self.line(at)
        self._found.append(SourceProblem(line, max(at, 0) - self._starts[line - 1] + 1, path, message))

    def near(self, name: str, known: Collection[str], otherwise: str = "") -> str:
        """`; did you mean …?` where a known name is like this one, else `otherwise`."""
        self._guesses += 1
        found = get_close_matches(name[:100], known, n=1, cutoff=0.6) if self._guesses <= _GUESSES else []
        return f"; did you mean {found[0]}?" if found else otherwise

    def error(self) -> WorkflowInvalid:
        """All that was found, as one error."""
        found = sorted(set(self._found))
        first = found[0]
        more = len(found) - 1 + self._beyond
        detail = f"line {first.line}, column {first.column}: {first.message}" + (f" (and {more} more)" if more else "")
        return WorkflowInvalid.of(detail, found)

    def check(self) -> None:
        """Nothing, if nothing was found.

        Raises:
            WorkflowInvalid: something was.
        """
        if self._found:
            raise self.error()


def named(names: Collection[str], most: int = 12) -> str:
    """A list of names for a sentence; a long one is cut."""
    shown = ", ".join(list(names)[:most])
    return shown + (", …" if len(names) > most else "")
