"""How often workers were lost lately, and how long the pool waits before it starts the next."""

from __future__ import annotations

from collections import deque

#: The first pause between two starts of a degraded pool, and the longest, in seconds; each loss doubles it.
BACKOFF_S, BACKOFF_MOST_S = 0.5, 30.0


class Losses:
    """Counts losses within a window; more than `most` of them is degraded, until a window passes without one."""

    def __init__(self, most: int, window_s: float) -> None:
        self.total = 0
        self.degraded = False
        self.pause_until = 0.0  #: monotonic; nothing is started before
        self._most = most
        self._window_s = window_s
        self._recent: deque[float] = deque(maxlen=most + 1)
        self._backoff_s = BACKOFF_S

    def add(self, now: float) -> bool:
        """Count one at the moment `now` (monotonic); True when that is what makes the pool degraded."""
        self.total += 1
        self._recent.append(now)
        if self.degraded:
            self._backoff_s = min(self._backoff_s * 2, BACKOFF_MOST_S)
        elif len(self._recent) <= self._most or now - self._recent[0] > self._window_s:
            return False
        began, self.degraded = not self.degraded, True
        self.pause_until = now + self._backoff_s
        return began

    def quiet_at(self) -> float:
        """When the window since the last loss has passed (monotonic)."""
        return self._recent[-1] + self._window_s if self._recent else 0.0

    def heal(self, now: float) -> bool:
        """End being degraded if the window was quiet; True when that changes something."""
        if not self.degraded or now < self.quiet_at():
            return False
        self.degraded = False
        self._backoff_s = BACKOFF_S
        self.pause_until = 0.0
        self._recent.clear()
        return True
