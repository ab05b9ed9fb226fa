"""The daemon's own log: one line an occurrence on stderr, JSON, or for people where stderr is a terminal.

Its words are those of the events: `event` is an event's type (or `part.happened` in the same form), times are `at`,
ids are `session_id`, `task_id`, `worker_id`, `request_id`. Output and environments of tasks never get here; secrets
are blotted out. A reader that stops reading stops nothing: lines that do not fit are dropped and counted.
"""

from __future__ import annotations

import logging
import re
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

from agentd.config import Log
from agentd.model.events import (
    Event,
    SessionQuarantined,
    TaskProgress,
    TaskSpawned,
    WorkerDegraded,
    WorkerLost,
    type_of,
)
from hosting import lines

BLOT = "[secret]"
_SECRET_KEY = re.compile(
    r"(^|[_-])(token|secret|password|passwd|authorization|cookie|api[_-]?key|env)s?$", re.IGNORECASE
)
_SECRET_TEXT = re.compile(
    r"(?P<lead>\bbearer\s+|(?:token|secret|password|passwd|api[_-]?key)\w*[\"']?\s*[=:]\s*[\"']?)(?!bearer\b)[^\s\"',;&]+"
    r"|\bagentd_[A-Za-z0-9_-]{32,}|\btask-[0-9a-z]{14}-[0-9a-f]{64}",  # a token, wherever it stands
    re.IGNORECASE,
)
_DEPTH = 4  #: of nested values that are searched for secrets; what is deeper is not shown

_WARNINGS = (SessionQuarantined, WorkerDegraded, WorkerLost)
_DETAILS = (TaskProgress, TaskSpawned)
#: What a task says of itself, and hashes: they stay in the journal.
_NOT_LOGGED = frozenset({"at", "phase", "message", "result", "key_hash", "body_hash"})


def configure(log: Log, fd: int = 2) -> None:
    """Send everything logged, by structlog or by the standard library, to the descriptor. Called once, at start."""
    lines.configure(log.level, log.format, blot, fd)


def happened(event: Event, **ids: str) -> None:
    """One line for an event: its type, its ids and what it counts."""
    values = {name: getattr(event, name) for name in event.__struct_fields__ if name not in _NOT_LOGGED}
    given = {name: value for name, value in values.items() if isinstance(value, str | int | float)}
    cause = getattr(event, "cause", None)
    if cause is not None:
        given["cause"] = cause.code
    level = (
        logging.WARNING
        if isinstance(event, _WARNINGS)
        else logging.DEBUG
        if isinstance(event, _DETAILS)
        else logging.INFO
    )
    structlog.get_logger().log(level, type_of(event), **{**given, **ids})


def blot(logger: WrappedLogger | None, method: str, line: EventDict) -> EventDict:
    """The line without secrets: values under telling names, and what follows `Bearer` or `token=` in any text."""
    return {key: _blotted(key, value, _DEPTH) for key, value in line.items()}


def _blotted(key: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _SECRET_KEY.search(key):
        return BLOT
    if isinstance(value, str):
        return _SECRET_TEXT.sub(lambda found: (found["lead"] or "") + BLOT, value)
    if depth == 0:
        return "…"
    if isinstance(value, MutableMapping):
        return {name: _blotted(str(name), item, depth - 1) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_blotted("", item, depth - 1) for item in value]
    return _blotted(key, str(value), depth)
