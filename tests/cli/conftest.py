"""Daemons for tests: one that all share, and ones that a test may kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.daemon_process import Agentd


@pytest.fixture(scope="session")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agentd]:
    agentd = Agentd(tmp_path_factory.mktemp("agentd"))
    try:
        agentd.start()
        yield agentd
    finally:
        agentd.end()


@pytest.fixture
def agentd(shared_daemon: Agentd) -> Agentd:
    """The daemon that all tests share: look only at what the test itself made. Thousands of others' tasks may wait."""
    return shared_daemon


@pytest.fixture
def own_daemon(tmp_path: Path) -> Iterator[Agentd]:
    """A daemon of the test's own."""
    agentd = Agentd(tmp_path)
    try:
        agentd.start()
        yield agentd
    finally:
        agentd.end()


@pytest.fixture
def no_daemon(tmp_path: Path) -> Agentd:
    """A place without a daemon."""
    return Agentd(tmp_path)
