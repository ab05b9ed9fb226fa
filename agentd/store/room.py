"""Whether there is room on the disk: a write that finds none says so, and then it is found out when there is some."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from agentd.errors import StorageFailed

#: Seconds between questions while the disk is full.
ASK_S = 2.0


class Room:
    """`full` from a write that found no room until one that did, or until `ask` says so: nobody may write meanwhile."""

    def __init__(self, ask: Callable[[], Awaitable[bool]]) -> None:
        self.full = False
        self._ask = ask
        self._asking: asyncio.Task[None] | None = None

    def missing(self) -> None:
        """A write found no room."""
        self.full = True
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._until_there_is_some())

    def found(self) -> None:
        """A write found room."""
        self.full = False

    async def _until_there_is_some(self) -> None:
        while self.full:
            await asyncio.sleep(ASK_S)
            with contextlib.suppress(StorageFailed):  # it refuses for another reason, which a write will tell
                if await self._ask():
                    self.full = False
        self._asking = None

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
