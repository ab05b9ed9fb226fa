"""Many agents are asked a few at a time, and one that is slow keeps nobody else waiting."""

from __future__ import annotations

import asyncio

import pytest

from webui import turns
from webui.turns import AT_ONCE, Turns


async def test_a_few_at_a_time_have_their_turn() -> None:
    many, now, most = Turns(), 0, 0

    async def ask() -> None:
        nonlocal now, most
        async with many.one():
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1

    await asyncio.gather(*(ask() for _ in range(20 * AT_ONCE)))
    assert most == AT_ONCE


async def test_a_turn_ends_by_its_time_and_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.01)
    many, slow, done = Turns(), asyncio.Event(), 0

    async def ask_slow() -> None:
        async with many.one():
            await slow.wait()

    async def ask() -> None:
        nonlocal done
        async with many.one():
            done += 1

    waiting = [asyncio.create_task(ask_slow()) for _ in range(AT_ONCE)]
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await asyncio.gather(*(ask() for _ in range(3)))  # the slow ones are at it still
        assert not slow.is_set()
        slow.set()
        await asyncio.gather(*waiting)
    assert many._free._value == AT_ONCE
    assert done == 3


async def test_who_gives_up_while_waiting_takes_no_turn_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN_S", 60.0)
    many = Turns()
    async with asyncio.TaskGroup() as group:
        held = [group.create_task(_hold(many)) for _ in range(AT_ONCE)]
        await asyncio.sleep(0)  # they have them
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), many.one():
                pass
        for task in held:
            task.cancel()
    assert many._free._value == AT_ONCE


async def _hold(many: Turns) -> None:
    async with many.one():
        await asyncio.Event().wait()
