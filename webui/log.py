"""The viewer's own log, in the form of the daemon's.

Tokens, cookies and links never get here; what looks like one is blotted out.
"""

from __future__ import annotations

import re

from structlog.typing import EventDict, WrappedLogger

from hosting import lines

BLOT = "[secret]"
_SECRET = re.compile(
    r"(?<=bearer )\S+|(?<=/login/)[\w-]{20,}|\bagentd_[\w-]{32,}|\btask-[0-9a-z]{14}-[0-9a-f]{64}|\bgAAAA[\w-]{60,}",
    re.IGNORECASE,
)


def configure(level: str, form: str, fd: int = 2) -> None:
    """Send everything logged to the descriptor, at `level` and in `form` (`hosting.lines`). Called once, at start."""
    lines.configure(level, form, _blot, fd)


def _blot(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
    return {key: _SECRET.sub(BLOT, value) if isinstance(value, str) else value for key, value in line.items()}
