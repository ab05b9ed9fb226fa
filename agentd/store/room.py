"""Whether the disk takes writes: one that it refused says so, and then it is found out when it takes them again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agentd.errors import StorageFailed, StorageFull

#: Seconds between questions while it takes none.
ASK_S = 2.0


class Room:
    """What is known of the disk as a whole; nobody may write meanwhile, so `ask` is asked until all is well.

    `full`: from a write that found no room until one that did, or `ask` says so. `refusal`: why it takes nothing at
    all, as `ask` found after a write that failed otherwise; one file that fails alone is no refusal of the disk's.
    """

    def __init__(self, ask: Callable[[], Awaitable[bool]]) -> None:
        self.full = False
        self.refusal: str | None = None
        self._ask = ask
        self._asking: asyncio.Task[None] | None = None

    def missing(self) -> None:
        """There is no room."""
        self.full = True
        self._ask_in(ASK_S)

    def refused(self, error: StorageFailed) -> None:
        """A write was not made."""
        if isinstance(error, StorageFull):
            self.missing()
        else:
            self._ask_in(0)

    def found(self) -> None:
        """A write was made."""
        self.full = False
        self.refusal = None

    def _ask_in(self, wait_s: float) -> None:
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._until_all_is_well(wait_s))

    async def _until_all_is_well(self, wait_s: float) -> None:
        well = False
        while not well:
            await asyncio.sleep(wait_s)
            wait_s = ASK_S
            well = await self._well()
        self._asking = None

    async def _well(self) -> bool:
        try:
            self.full = not await self._ask() and self.full
            self.refusal = None
        except StorageFailed as error:
            self.refusal = error.detail
        return not self.full and self.refusal is None

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
