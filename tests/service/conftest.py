"""A house per test, closed whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from .house import House

Build = Callable[..., House]


@pytest.fixture
async def build(tmp_path: Path) -> AsyncIterator[Build]:
    """Makes houses on one data directory; open them."""
    built: list[House] = []

    def make(**settings: object) -> House:
        built.append(House(tmp_path / "data", **settings))  # type: ignore[arg-type]
        return built[-1]

    yield make
    for house in built:
        house.disk.refuse_write = house.disk.refuse_sync = None
        await house.close()


@pytest.fixture
async def house(build: Build) -> House:
    """An open house that runs tasks."""
    house = build()
    await house.open()
    return house


@pytest.fixture
async def quiet(build: Build) -> House:
    """An open house that starts no task until `run`."""
    house = build()
    await house.open(running=False)
    return house
