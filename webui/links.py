"""One-time links: what a person who can read the viewer's secret, or its terminal, logs in with."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import msgspec

from webui.identity import Role, Seals

#: A link can be used for so long.
LINK_S = 600.0


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """What a link says; `made_at` and `expires_at` are epoch seconds."""

    id: str
    role: int
    made_at: float
    expires_at: float


def make_link(seals: Seals, now: float, role: Role = Role.ADMIN, lasts_s: float = LINK_S) -> str:
    """The secret part of a link for one login."""
    return seals.seal(Link(id=secrets.token_urlsafe(16), role=role, made_at=now, expires_at=now + lasts_s))


class Links:
    """Takes each link once. A link made before this viewer began is refused, since nobody remembers its use."""

    def __init__(self, seals: Seals, now: Callable[[], float]) -> None:
        self._seals = seals
        self._now = now
        self._began = now()
        self._used: dict[str, float] = {}

    def take(self, sealed: str) -> Role | None:
        """What the link allows; None when it is not ours, has expired or was used."""
        now = self._now()
        self._used = {used: expires for used, expires in self._used.items() if expires > now}
        link = self._seals.open(sealed, Link)
        if link is None or link.expires_at <= now or link.made_at < self._began or link.id in self._used:
            return None
        self._used[link.id] = link.expires_at
        return Role(link.role)
