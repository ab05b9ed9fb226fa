"""Going on after a failed sync: the session is read-only until a new segment of its journal can be begun."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agentd.errors import StorageFailed
from agentd.store.ledger import Ledger

#: Seconds between attempts.
RESUME_S = 5.0


class Healing:
    """Tries again for each poisoned ledger until its disk takes writes, and tells `healed` then.

    `in_thread` runs blocking work.
    """

    def __init__(
        self, in_thread: Callable[[Callable[[], None]], Awaitable[None]], healed: Callable[[Ledger], None]
    ) -> None:
        self._in_thread = in_thread
        self._healed = healed
        self._healers: dict[Ledger, asyncio.Task[None]] = {}

    def begin(self, ledger: Ledger) -> None:
        """The ledger's folder was just poisoned: it is read-only from here on."""
        ledger.reason = ledger.folder.poisoned
        self._healers[ledger] = asyncio.get_running_loop().create_task(self._heal(ledger))

    async def _heal(self, ledger: Ledger) -> None:
        while True:
            try:
                await self._in_thread(ledger.folder.resume)
            except StorageFailed:
                await asyncio.sleep(RESUME_S)
            else:
                del self._healers[ledger]
                ledger.reason = None
                self._healed(ledger)
                return

    async def forget(self, ledger: Ledger) -> None:
        """Give this one up, if it is being healed; it stays as it is on disk."""
        if (healer := self._healers.pop(ledger, None)) is not None:
            healer.cancel()
            await asyncio.wait([healer])

    async def close(self) -> None:
        """Give all up."""
        for ledger in list(self._healers):
            await self.forget(ledger)
