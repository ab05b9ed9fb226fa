"""A container engine for all tests of a process, and daemons that use it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.container_engine import ContainerEngine, container_engine
from tests.daemon.conftest import make_daemon as make_daemon


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
