"""Waiting through an outage: a daemon that restarts is no reason to give up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from agentd.cli.printing import notice
from agentd.errors import AgentdError, Unavailable, Unreachable

if TYPE_CHECKING:
    from agentd.client import Client

T = TypeVar("T")

#: How long a daemon may be away.
PATIENCE_S = 30.0
PAUSE_S = 0.3


class Patience:
    """Asks again while no daemon answers, looking each time where it is.

    Args:
        agent: the daemon.
        patience_s: for how long.
        told: somebody else says that it is away.
    """

    def __init__(self, agent: Client, patience_s: float = PATIENCE_S, *, told: bool = False) -> None:
        self._agent = agent
        self._patience_s = patience_s
        self._told = told
        self._until: float | None = None

    async def after(self, error: AgentdError) -> None:
        """Pause; or raise the error, when it has been so for too long."""
        now = asyncio.get_running_loop().time()
        if self._until is None:
            self._until = now + self._patience_s
            if not self._told:
                notice(f"{error.detail}; trying again for {self._patience_s:.0f} s")
        if now >= self._until:
            raise error
        await asyncio.sleep(PAUSE_S)
        await self._agent.find_again()

    async def kept(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What the daemon says.

        Raises:
            Unreachable, Unavailable: not for so long.
        """
        self._until = None
        while True:
            try:
                return await ask()
            except (Unreachable, Unavailable) as error:
                await self.after(error)
