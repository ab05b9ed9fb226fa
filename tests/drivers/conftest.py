"""A container engine for all tests of a process, and daemons that use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.container_engine import ContainerEngine, container_engine
from tests.daemon.conftest import make_daemon as make_daemon
from tests.drivers.harness import end_all_of


@pytest.fixture(autouse=True)
def nothing_left_running(tmp_path: Path) -> Iterator[None]:
    """However a test ends, so do the processes that it started in its directory."""
    yield
    end_all_of(tmp_path)


@pytest.fixture(scope="session")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerEngine]:
    with container_engine(tmp_path_factory.mktemp("e")) as engine:
        yield engine


@pytest.fixture
def engine(shared_engine: ContainerEngine) -> Iterator[ContainerEngine]:
    """An engine without containers; one that a test has stopped is started again."""
    if shared_engine.service is None:
        shared_engine.start()
    yield shared_engine
    shared_engine.clear()
