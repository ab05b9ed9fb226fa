"""The table of parsers: everything of agentd that reads what it did not write, with examples of what it reads.

A target is called with any bytes. It may refuse them by the errors that its docstring promises; whatever else it
raises, and every property asserted in it that does not hold, is a fault.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from multidict import CIMultiDict

Target = Callable[[bytes], None]

#: Deeper than any stack: it was an error of agentd's own in nearly every reader of JSON.
DEEP = b'{"a":' * 5000


class Parser(NamedTuple):
    """One target by name, and bytes that it takes, to begin from."""

    name: str
    run: Target
    examples: tuple[bytes, ...]


_TABLE: dict[str, Parser] = {}


def parser(*examples: bytes | str) -> Callable[[Target], Target]:
    """Enter a target into the table."""

    def entered(run: Target) -> Target:
        given = tuple(each.encode() if isinstance(each, str) else each for each in examples)
        _TABLE[run.__name__] = Parser(run.__name__, run, (b"", *given))
        return run

    return entered


def parsers() -> dict[str, Parser]:
    """All of them by name."""
    for module in ("files", "archives", "requests", "texts"):
        importlib.import_module(f"faultlib.parsed_{module}")
    return dict(_TABLE)


@cache
def place() -> Path:
    """A directory for the files of one run, in memory where the system has that."""
    return Path(tempfile.mkdtemp(prefix="parsers-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))


class StoppedClock:
    """A clock that stands."""

    def time(self) -> float:
        return 1.0

    def monotonic(self) -> float:
        return 1.0


def request(**headers: str) -> Any:
    """What the readers of headers look at."""
    given = CIMultiDict((name.replace("_", "-"), value) for name, value in headers.items())
    return SimpleNamespace(headers=given, remote="127.0.0.1", transport=None, path="/", cookies={}, query={})


def header(text: bytes) -> str | None:
    """A value as the HTTP parser hands it on; None for what it refuses by itself."""
    if any(byte in b"\r\n\0" for byte in text):
        return None
    return text.decode("utf-8", "surrogateescape").strip(" \t")
