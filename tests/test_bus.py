"""The doorbell: who listens hears everything in order, or is told that it does not; nothing grows without bound."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd import bus as module
from agentd.bus import Bus, BusClosed, SlowReader


async def test_a_listener_of_a_session_hears_its_own_and_one_of_all_hears_everything() -> None:
    bus = Bus(10)
    async with bus.subscribe("a", 10) as one, bus.subscribe(None, 10) as everything:
        bus.publish("a", 7, b"x")
        bus.publish("b", 3, b"y")
        bus.publish(None, 0, b"z")
        assert await one.get() == (7, b"x")
        assert [await everything.get() for _ in range(3)] == [(1, b"x"), (2, b"y"), (3, b"z")]
        assert bus.subscribers == 2
    assert bus.subscribers == 0


async def test_a_reader_that_waits_is_woken() -> None:
    bus = Bus(10)
    async with bus.subscribe("a", 10) as one:
        waiting = asyncio.create_task(one.get())
        await asyncio.sleep(0)
        bus.publish("a", 1, b"x")
        assert await waiting == (1, b"x")


async def test_a_slow_reader_is_dropped_once_and_counted_once() -> None:
    bus = Bus(10)
    async with bus.subscribe("a", 2) as slow:
        for seq in range(9):
            bus.publish("a", seq, b"x")
        with pytest.raises(SlowReader):
            await slow.get()
    assert bus.dropped == 1


async def test_a_reader_that_lags_by_too_many_bytes_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    bus = Bus(10)
    async with bus.subscribe("a", 1000) as keeping_up, bus.subscribe("a", 1000) as slow:
        for seq in range(3):
            bus.publish("a", seq, b"x" * 60)
            assert (await keeping_up.get())[0] == seq
        with pytest.raises(SlowReader):
            await slow.get()
        bus.publish("a", 3, b"y" * 500)  # larger than the bound by itself: still told
        assert await keeping_up.get() == (3, b"y" * 500)


async def test_what_was_published_before_the_close_is_still_read() -> None:
    bus = Bus(10)
    async with bus.subscribe(None, 10) as listener:
        bus.publish(None, 0, b"last")
        bus.close()
        assert await listener.get() == (1, b"last")
        with pytest.raises(BusClosed):
            await listener.get()


async def test_the_close_wakes_who_waits() -> None:
    bus = Bus(10)
    async with bus.subscribe("a", 10) as listener:
        waiting = asyncio.create_task(listener.get())
        await asyncio.sleep(0)
        bus.close()
        with pytest.raises(BusClosed):
            await waiting


@given(
    sizes=st.lists(st.integers(0, 60), max_size=60),
    ring=st.integers(1, 20),
    after=st.integers(-3, 70),
)
def test_a_replay_has_everything_behind_a_position_or_says_that_it_has_not(
    sizes: list[int], ring: int, after: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "MOST_BYTES", 200)
        bus = Bus(ring)
        for size in sizes:
            bus.publish(None, 0, b"x" * size)
        kept = list(bus._ring)
        assert len(kept) <= ring
        assert sum(len(line) for _, line in kept) <= 200
        rows = bus.replay(after)
        if rows is None:
            assert after > len(sizes) or after + 1 < (kept[0][0] if kept else len(sizes) + 1)
        else:
            assert [position for position, _ in rows] == list(range(max(after, 0) + 1, len(sizes) + 1))
            assert all(b[0] == a[0] + 1 for a, b in pairwise(rows))
