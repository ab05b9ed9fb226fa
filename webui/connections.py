"""Connections of browsers: how many there may be, and what is said to what is no request, or one too many."""

from __future__ import annotations

import resource
from collections.abc import Callable

from aiohttp import web

from hosting.connections import SHUTDOWN_S, Server, Terms
from webui.refusals import Refusal

#: Of the request line: the cursor of a merged list takes about 120 bytes for each agent.
LINE_BYTES = 64 << 10
#: Of one header; a cookie has at most 4 KiB.
HEADER_BYTES = 8190
#: Open at once, where the system allows the viewer twice as many files: the other half is for agents.
CONNECTIONS = 10_000

Refuse = Callable[[web.Request, Refusal], web.Response]


class Runner(web.AppRunner):
    """Runs an application; `setup` it, add sites, and `cleanup` at the end. `refuse` makes what refuses look ours."""

    __slots__ = ("_refuse",)

    def __init__(self, app: web.Application, refuse: Refuse) -> None:
        super().__init__(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
        self._refuse = refuse

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        terms = Terms(
            connections=connections_allowed(),
            line_bytes=LINE_BYTES,
            header_bytes=HEADER_BYTES,
            refuse=lambda request, why: self._refuse(request, Refusal(*why)),
            farewell=web.Response(
                status=503, text="The viewer has too many open connections.", headers={"Retry-After": "2"}
            ),
            forsaken=lambda request: True,
        )
        return Server(made.request_handler, terms, made.request_factory)


def connections_allowed() -> int:
    """How many connections there may be, with as many files left for agents; takes all files that the system allows."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    return CONNECTIONS if files == resource.RLIM_INFINITY else min(CONNECTIONS, files // 2)
