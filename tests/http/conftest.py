"""A whole daemon for each test, in the test's own event loop, and a client that says what it got."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from agentd.config import Http, Limits, Settings, Workers
from agentd.daemon import Daemon

from .talk import Api

Serve = Callable[..., Awaitable[Api]]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Starts a daemon with given limits and HTTP settings."""
    started: list[tuple[Daemon, Api]] = []

    async def start(limits: Limits | None = None, http: Http | None = None, drain_s: float = 0.1) -> Api:
        settings = Settings(
            data_dir=str(tmp_path / "data"),
            drain_s=drain_s,
            workers=Workers(min=1, max=4, grace_s=0.2),
            limits=limits or Limits(),
            http=http or Http(port=0, heartbeat_s=0.2),
        )
        daemon = Daemon(settings)
        await daemon.start()
        api = Api(daemon, aiohttp.ClientSession(daemon.url), (tmp_path / "data" / "token").read_text().strip())
        started.append((daemon, api))
        return api

    yield start
    for daemon, api in started:
        await api.close()
        if not api.stopped:
            await daemon.stop()


@pytest.fixture
async def api(serve: Serve) -> Api:
    """A client of a daemon with default limits."""
    return await serve()
