"""A daemon per test, ended whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .harness import RealDaemon

MakeDaemon = Callable[..., RealDaemon]


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[MakeDaemon]:
    """Makes daemons on directories under tmp_path; the same name is the same directory."""
    made: list[RealDaemon] = []

    def make(name: str = "data", **settings: object) -> RealDaemon:
        daemon = RealDaemon(tmp_path / name, **settings)
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        daemon.end()


@pytest.fixture
def daemon(make_daemon: MakeDaemon) -> RealDaemon:
    """A running daemon."""
    return make_daemon().start()
