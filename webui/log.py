"""The viewer's own log: one line an occurrence on stderr, JSON, or for people where stderr is a terminal.

The daemon's log has the same form. Tokens, cookies and links never get here; what looks like one is blotted out. A
reader that stops reading stops nothing: what does not fit is dropped.
"""

from __future__ import annotations

import logging
import os
import re
import select
import time
from datetime import UTC, datetime

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

BLOT = "[secret]"
#: What a library says again within so long is left out; so many of its sentences are remembered.
REPEAT_S = 10.0
MAX_SAID = 100
#: What a terminal obeys, or what turns the direction of writing; line feeds and tabs apart.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_SECRET = re.compile(
    r"(?<=bearer )\S+|(?<=/login/)[\w-]{20,}|\bagentd_[\w-]{32,}|\btask-[0-9a-z]{14}-[0-9a-f]{64}|\bgAAAA[\w-]{60,}",
    re.IGNORECASE,
)


def configure(level: str, form: str, fd: int = 2) -> None:
    """Send everything logged, by structlog or by the standard library, to the descriptor. Called once, at start.

    Args:
        level: debug, info, warning or error.
        form: console, json, or auto: console on a terminal.
    """
    terminal = os.isatty(fd)
    render: list[Processor] = [_as_json]
    if form == "console" or (form == "auto" and terminal):
        colors = terminal and "NO_COLOR" not in os.environ
        render = [_plain, structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="at", pad_event_to=24)]
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _at,
            structlog.processors.format_exc_info,
            _blot,
            *render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=_Lines(fd)),  # type: ignore[arg-type] # has what it calls
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Bridge()]
    root.setLevel(max(number, logging.WARNING))


class _Lines:
    """A text file onto a descriptor that never waits for whoever reads it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, text: str) -> None:
        view = memoryview(text.encode("utf-8", "backslashreplace"))
        try:
            while view and self._poll.poll(0):  # room for PIPE_BUF bytes (pipe(7))
                view = view[os.write(self._fd, view[: select.PIPE_BUF]) :]
        except OSError:
            pass  # the reader has gone; there is nobody to tell

    def flush(self) -> None:
        """Nothing is held back."""


class _Bridge(logging.Handler):
    """Lines of libraries that use the standard library's logging, aiohttp and asyncio above all."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[object, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._just_said(record):
                return
            line = {"logger": record.name, "message": record.getMessage(), "exc_info": record.exc_info}
            structlog.get_logger().log(min(record.levelno, logging.ERROR), "library.said", **line)
        except Exception:  # what a library logs must not break the viewer
            self.handleError(record)

    def _just_said(self, record: logging.LogRecord) -> bool:
        """Whether it said so moments ago: asyncio without descriptors repeats itself by the hundred."""
        said = record.name, record.getMessage().partition("\n")[0], record.exc_info and record.exc_info[0]
        now = time.monotonic()
        if now - self._said.get(said, float("-inf")) < REPEAT_S:
            return True
        if len(self._said) >= MAX_SAID:
            self._said.clear()
        self._said[said] = now
        return False


def _plain(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
    """What the console shows as it is, made such that it steers no terminal and forges no line; the rest is quoted."""
    for key, indent in (("event", "\\n"), ("exception", "\n    ")):
        if isinstance(text := line.get(key), str):
            line[key] = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text).replace("\n", indent)
    return line


def _at(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
    line["at"] = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return line


def _blot(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
    return {key: _SECRET.sub(BLOT, value) if isinstance(value, str) else value for key, value in line.items()}


def _as_json(logger: WrappedLogger, method: str, line: EventDict) -> str:
    first = {"at": line.pop("at"), "level": line.pop("level"), "event": line.pop("event")}
    return msgspec.json.encode({**first, **line}, enc_hook=str).decode()
