"""Time, passed in wherever a test must rule it."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def time(self) -> float:
        """Seconds since the epoch; may jump."""

    def monotonic(self) -> float:
        """Seconds from some start; never goes back. Durations come from here."""


class SystemClock:
    """The machine's clocks."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


def rfc3339(seconds: float) -> str:
    """UTC with microseconds, always 27 characters, so that text order is time order (RFC 3339 §5.1)."""
    part, whole = math.modf(seconds)
    micros = round(part * 1_000_000)
    if not 0 <= micros < 1_000_000:
        whole, micros = whole + micros // 1_000_000, micros % 1_000_000
    return f"{_to_the_second(int(whole))}.{micros:06}Z"


@lru_cache(maxsize=16)
def _to_the_second(seconds: int) -> str:
    """Most times that are written are of this very second."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:-6]


def epoch(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time.

    Raises:
        ValueError: not such a time, or one without an offset.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset; end it with Z")
    return moment.timestamp()
