"""Timers by name: each is set at most once at a time, and all can be called off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarms:
    """Named calls in the future, on the running loop."""

    def __init__(self) -> None:
        self._handles: dict[str, asyncio.TimerHandle] = {}
        self._off = False

    def set(self, name: str, wait_s: float, call: Callable[[], None]) -> None:
        """Call once, in so many seconds; one of the same name that is set already stays."""
        if self._off or name in self._handles:
            return

        def ring() -> None:
            del self._handles[name]
            call()

        self._handles[name] = asyncio.get_running_loop().call_later(max(0.0, wait_s), ring)

    def is_set(self, name: str) -> bool:
        """Whether it is still to ring."""
        return name in self._handles

    def off(self) -> None:
        """Call off all, for good."""
        self._off = True
        for handle in self._handles.values():
            handle.cancel()
        self._handles.clear()
