"""A real daemon to talk to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from agentd.client import Client
from tests.cli.daemon_process import Agentd


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agentd]:
    agentd = Agentd(tmp_path_factory.mktemp("agentd"))
    try:
        agentd.start()
        yield agentd
    finally:
        agentd.end()


@pytest.fixture
async def agent(daemon: Agentd) -> AsyncIterator[Client]:
    async with Client(daemon.agent["url"], daemon.token) as client:
        yield client
