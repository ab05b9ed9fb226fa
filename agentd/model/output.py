"""What clients are answered about the output of an attempt."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from agentd.model.task import Value


class OutputLine(Value, frozen=True, kw_only=True):
    """One line of a task's output; `text` is cut at `limits.line_bytes`, bad UTF-8 replaced.

    `at` and `stream` are there where details are asked for: when its first byte was written, and whether to `out` or
    `err`; null where that is not known.
    """

    line: int
    offset: int
    length: int  #: bytes of the whole line, without its line feed
    text: str
    truncated: bool = False
    at: str | UnsetType | None = UNSET
    stream: str | UnsetType | None = UNSET


class OutputLines(Value, frozen=True, kw_only=True):
    """A window of lines; `total_lines` and `size` are of the whole log (or stream) as it is now.

    `sgr` has the SGR parameters (colours, as in `1;31`) that a terminal would be in at the start of the first line.
    """

    lines: tuple[OutputLine, ...]
    total_lines: int
    size: int
    ended: bool
    sgr: str = ""


class OutputGrowth(Value, frozen=True, kw_only=True):
    """How large the output of an attempt (or a stream of it) is now; `ended` when no more comes of this attempt."""

    attempt: int
    size: int
    total_lines: int
    ended: bool


class OutputMatches(Value, frozen=True, kw_only=True):
    """Lines with the text, the first `limit` of `total`."""

    matches: tuple[OutputLine, ...]
    total: int
    size: int
