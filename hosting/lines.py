"""A log: one line an occurrence, JSON, or for people where it goes to a terminal.

A reader that stops reading stops nothing: lines that do not fit are dropped and counted. What must not be shown is
blotted out by a processor of whoever logs.
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

#: What a library says again within so long is left out; so many of its sentences are remembered.
REPEAT_S = 10.0
MAX_SAID = 100
#: What a terminal obeys, or what turns the direction of writing; line feeds and tabs apart.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def configure(level: str, form: str, blot: Processor, fd: int = 2) -> None:
    """Send everything logged, by structlog or by the standard library, to the descriptor. Called once, at start.

    Args:
        level: debug, info, warning or error.
        form: console, json, or auto: console on a terminal.
        blot: takes a line with all its values, and gives it without secrets.
    """
    terminal = os.isatty(fd)
    render: list[Processor] = [_as_json]
    if form == "console" or (form == "auto" and terminal):
        colors = terminal and "NO_COLOR" not in os.environ
        render = [_plain, structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="at", pad_event_to=24)]
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _at,
            structlog.processors.format_exc_info,
            blot,
            *render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=Lines(fd)),  # type: ignore[arg-type] # has what it calls
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, _Bridge):
            root.removeHandler(handler)
    root.addHandler(_Bridge())
    root.setLevel(max(number, logging.WARNING))


class Lines:
    """A text file onto a descriptor that never waits for whoever reads it.

    Pipes and terminals take what they have room for; the rest is dropped, and a `log.dropped` line says how much
    as soon as there is room again.
    """

    #: What a pipe or terminal that polls as writable takes without blocking (PIPE_BUF, pipe(7)).
    CHUNK = select.PIPE_BUF

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self.dropped = 0
        self._torn = False

    def write(self, text: str) -> int:
        """Write one line, or count it as dropped."""
        if self.dropped:
            note = {"event": "log.dropped", "level": "warning", "lines": self.dropped}
            if not self._sent(b"\n" * self._torn + msgspec.json.encode(note) + b"\n"):
                self.dropped += 1
                return 0
            self.dropped, self._torn = 0, False
        if not self._sent(text.encode("utf-8", "backslashreplace")):
            self.dropped += 1
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def _sent(self, data: bytes) -> bool:
        view = memoryview(data)
        try:
            while view:
                if not self._poll.poll(0):
                    self._torn |= len(view) < len(data)
                    return False
                view = view[os.write(self._fd, view[: self.CHUNK]) :]
        except OSError:  # the reader has gone; there is nobody to tell
            return False
        return True


class _Bridge(logging.Handler):
    """Lines of libraries that use the standard library's logging, aiohttp and asyncio above all."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[object, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._just_said(record):
                return
            line = {"logger": record.name, "message": record.getMessage()}
            if record.exc_info:
                line["exc_info"] = record.exc_info  # type: ignore[assignment] # format_exc_info takes it
            structlog.get_logger().log(min(record.levelno, logging.ERROR), "library.said", **line)
        except Exception:  # what a library logs must not break whoever uses it
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


def _at(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
    line["at"] = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return line


def _plain(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
    """What the console shows as it is, made such that it steers no terminal and forges no line; the rest is quoted."""
    for key, indent in (("event", "\\n"), ("exception", "\n    ")):
        if isinstance(text := line.get(key), str):
            line[key] = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text).replace("\n", indent)
    return line


def _as_json(logger: WrappedLogger, method: str, line: EventDict) -> str:
    first = {"at": line.pop("at"), "level": line.pop("level"), "event": line.pop("event")}
    return msgspec.json.encode({**first, **line}, enc_hook=str).decode()
