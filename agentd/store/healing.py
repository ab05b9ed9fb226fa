"""Going on after a failed sync: the session is read-only until a new segment of its journal can be begun."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agentd.errors import StorageFailed
from agentd.store.ledger import Ledger

#: Seconds between attempts.
RESUME_S = 5.0


class Healing:
    """Tries again for each poisoned ledger until its disk takes writes. `in_thread` runs blocking work."""

    def __init__(self, in_thread: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
        self._in_thread = in_thread
        self._healers: set[asyncio.Task[None]] = set()

    def begin(self, ledger: Ledger) -> None:
        """The ledger's folder was just poisoned: it is read-only from here on."""
        ledger.reason = ledger.folder.poisoned
        healer = asyncio.get_running_loop().create_task(self._heal(ledger))
        self._healers.add(healer)
        healer.add_done_callback(self._healers.discard)

    async def _heal(self, ledger: Ledger) -> None:
        while True:
            try:
                await self._in_thread(ledger.folder.resume)
            except StorageFailed:
                await asyncio.sleep(RESUME_S)
            else:
                ledger.reason = None
                return

    async def close(self) -> None:
        """Give up; what is poisoned stays as it is on disk."""
        for healer in self._healers:
            healer.cancel()
        await asyncio.gather(*self._healers, return_exceptions=True)
