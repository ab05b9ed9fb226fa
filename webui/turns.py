"""Many agents asked at once, a few at a time: the first are read before the last are asked.

Without that a thousand requests begin in one moment, and the time of all of them is over before one answer is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

#: Requests whose turn it is at once.
AT_ONCE = 32
#: How long a turn lasts: an agent that takes longer is waited for, and keeps nobody else waiting.
TURN_S = 0.05


class Turns:
    """Turns at asking."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Wait for a turn; it ends with the block, or by its time."""
        await self._free.acquire()
        over = False

        def end() -> None:
            nonlocal over
            if not over:
                over = True
                self._free.release()

        timer = asyncio.get_running_loop().call_later(TURN_S, end)
        try:
            yield
        finally:
            timer.cancel()
            end()
