"""Threads that work for the loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from agentd.store.hands import Hands


class Heard:
    """What was told, and a way to wait for so much of it."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, BaseException | None]] = []
        self._more = asyncio.Event()

    def __call__(self, result: Any, error: BaseException | None) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.all.append((result, error))
        self._more.set()

    async def count(self, wanted: int) -> None:
        async with asyncio.timeout(60):
            while len(self.all) < wanted:
                self._more.clear()
                await self._more.wait()


async def test_a_result_and_an_error_are_told_on_the_loop() -> None:
    hands, heard = Hands(1, "t"), Heard()
    hands.run(divmod, (7, 2), heard)
    hands.run(divmod, (7, 0), heard)
    await heard.count(2)
    assert heard.all[0] == ((3, 1), None)
    assert isinstance(heard.all[1][1], ZeroDivisionError)
    hands.shutdown()


async def test_more_calls_than_threads_wait_in_their_order() -> None:
    hands, heard, go = Hands(2, "t"), Heard(), threading.Event()
    for number in range(6):
        hands.run(lambda number: (go.wait(20), number)[1], (number,), heard)
    go.set()
    await heard.count(6)
    assert {result for result, _ in heard.all[:2]} <= {0, 1, 2}
    assert sorted(result for result, _ in heard.all) == list(range(6))
    hands.shutdown()


async def test_calls_one_after_the_other_all_go_to_one_thread() -> None:
    hands, heard = Hands(8, "t"), Heard()
    for number in range(200):
        hands.run(threading.get_ident, (), heard)
        await heard.count(number + 1)
    assert len({result for result, _ in heard.all}) == 1
    hands.shutdown()


async def test_a_call_may_be_asked_for_while_the_last_is_being_told() -> None:
    hands, heard = Hands(1, "t"), Heard()

    def again(result: Any, error: BaseException | None) -> None:
        heard(result, error)
        if result < 50:
            hands.run(lambda: result + 1, (), again)

    hands.run(lambda: 1, (), again)
    await heard.count(50)
    hands.shutdown()


async def test_no_thread_is_left_after_the_shutdown() -> None:
    hands, heard = Hands(4, "gone"), Heard()
    for _ in range(4):
        hands.run(int, (), heard)
    await heard.count(4)
    hands.shutdown()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gone")]


async def test_where_no_further_thread_can_be_had_those_there_are_do_all() -> None:
    hands, heard, go = Hands(8, "t"), Heard(), threading.Event()
    hands.run(go.wait, (20,), heard)
    before = threading.stack_size(1 << 46)  # for which there is no room
    try:
        for number in range(5):
            hands.run(abs, (number,), heard)
    finally:
        threading.stack_size(before)
    go.set()
    await heard.count(6)
    assert heard.all == [(True, None), *((number, None) for number in range(5))]
    hands.shutdown()
