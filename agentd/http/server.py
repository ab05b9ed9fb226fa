"""The daemon's HTTP server: how many connections it takes, and what it says to those that are none of its API."""

from __future__ import annotations

import resource
from collections.abc import Awaitable, Callable

from aiohttp import web

from agentd.config import Limits
from agentd.http import problems
from hosting.connections import SHUTDOWN_S, Server, Terms, Unreadable

#: Of the request line; that of a header is `limits.header_bytes`.
LINE_BYTES = 8190
#: Descriptors that are neither connections nor counted by `connections_for`: the daemon's own, and what files are
#: opened for a moment.
SPARE_FILES = 256

#: Set in a request whose answer is an endless stream.
ONLY_SENDS = web.RequestKey("only_sends", bool)

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Refuse = Callable[[web.BaseRequest, Unreadable], web.StreamResponse]


class Runner(web.ServerRunner):
    """Runs the server; `setup` it, add sites, and `cleanup` at the end."""

    def __init__(self, answer: Answer, refuse: Refuse, *, header_bytes: int, connections: int) -> None:
        full = "too many connections (limits.connections); come back later"
        terms = Terms(
            connections=connections,
            line_bytes=LINE_BYTES,
            header_bytes=header_bytes,
            header_setting="limits.header_bytes",
            refuse=refuse,
            farewell=problems.answer("unavailable", full, "none"),
            # A stream would notice only at its next heartbeat; all else goes on, whoever reads the answer.
            forsaken=lambda request: ONLY_SENDS in request,
        )
        super().__init__(Server(answer, terms), shutdown_timeout=SHUTDOWN_S)


def connections_for(limits: Limits, workers: int) -> int:
    """How many connections leave descriptors enough for sessions in memory and for workers."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return limits.connections
    kept = 2 * limits.resident_sessions + 4 * workers + SPARE_FILES
    return max(1, min(limits.connections, max(files - kept, files // 4)))
