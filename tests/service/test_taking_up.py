"""Sessions that were set aside, and who comes while one is taken up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from agentd.errors import SessionReadOnly, StorageFailed
from agentd.store.ledger import Ledger
from agentd.store.locks import DirectoryLock

from .conftest import Build
from .house import PATIENCE_S, House, until


@pytest.fixture
async def aside(build: Build) -> House:
    """The next boot of a house whose session another program held at its start, and holds no more."""
    first = build()
    await first.open(running=False)
    await first.session()
    await first.submit()
    await first.close()
    lock = DirectoryLock.take(first.store.path("s"))
    assert lock is not None
    house = build()
    await house.open(running=False)
    lock.release()
    assert "holds the lock" in (house.store.entry("s").reason or "")
    return house


class Gate:
    """What a take-up waits for; then it is done, or the disk refuses."""

    def __init__(self, refusal: StorageFailed | None = None) -> None:
        self.open = asyncio.Event()
        self.reached: Ledger | None = None
        self._refusal = refusal

    async def __call__(self, ledger: Ledger) -> None:
        self.reached = ledger
        async with asyncio.timeout(PATIENCE_S):
            await self.open.wait()
        if self._refusal is not None:
            raise self._refusal


async def outcome(work: Awaitable[Ledger]) -> Ledger | Exception:
    try:
        return await work
    except Exception as error:
        return error


async def taken_up(house: House, gate: Gate, others: int) -> tuple[Ledger | Exception, list[Ledger | Exception]]:
    """How a take-up ends, and what those get who ask for the session in the middle of it."""
    taking = asyncio.create_task(outcome(house.store.take_up("s", gate)))
    await until(lambda: gate.reached)
    readers = [asyncio.create_task(outcome(house.store.ledger("s"))) for _ in range(others)]
    await asyncio.sleep(0)  # they have asked
    assert not any(reader.done() for reader in readers)
    gate.open.set()
    return await taking, await asyncio.gather(*readers)


async def test_who_asks_while_a_session_is_taken_up_gets_what_was_made_ready(aside: House) -> None:
    gate = Gate()
    taken, others = await taken_up(aside, gate, 3)
    assert [taken, *others] == [gate.reached] * 4
    assert aside.store.entry("s").reason is None


async def test_who_asks_while_a_session_is_taken_up_in_vain_does_not_open_it_unready(aside: House) -> None:
    refused = StorageFailed("there is no room for what must be recorded first")
    taken, others = await taken_up(aside, Gate(refused), 3)
    assert taken is refused
    assert [type(each) for each in others] == [SessionReadOnly] * 3
    assert aside.store.entry("s").ledger is None
    assert isinstance(await aside.store.take_up("s", _nothing_to_do), Ledger)  # its lock and its journal are free


async def test_of_two_take_ups_at_once_the_second_gets_what_the_first_made(aside: House) -> None:
    gate = Gate()
    second = Gate()
    taking = asyncio.create_task(outcome(aside.store.take_up("s", gate)))
    await until(lambda: gate.reached)
    other = asyncio.create_task(outcome(aside.store.take_up("s", second)))
    await asyncio.sleep(0)
    gate.open.set()
    assert await taking is await other is gate.reached
    assert second.reached is None


async def _nothing_to_do(ledger: Ledger) -> None:
    pass
