"""One-time links: what a person who can read the viewer's secret, or its terminal, logs in with."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import struct
from collections.abc import Callable

from webui.identity import Role, derived

#: A link can be used for so long.
LINK_S = 600
#: Version, role, when it was made and until when it can be used (epoch milliseconds), what makes it the only one.
_FORM = struct.Struct(">BBQQ8s")
_VERSION = 1
_SIGNATURE_BYTES = 16
_LENGTH = len(base64.urlsafe_b64encode(bytes(_FORM.size + _SIGNATURE_BYTES)).rstrip(b"="))


class Links:
    """Makes links and takes each once. One made before this object was is refused: nobody remembers its use.

    Args:
        secret: of the viewer.
        now: epoch seconds.
    """

    def __init__(self, secret: bytes, now: Callable[[], float]) -> None:
        self._key = derived(secret, b"link")
        self._now = now
        self._began = now()
        self._used: dict[bytes, float] = {}

    def make(self, role: Role = Role.ADMIN) -> str:
        """The secret part of a link for one login."""
        now = self._now()
        signed = _FORM.pack(_VERSION, role, int(now * 1000), int((now + LINK_S) * 1000), os.urandom(8))
        return base64.urlsafe_b64encode(signed + self._signature(signed)).rstrip(b"=").decode()

    def take(self, link: str) -> Role | None:
        """What the link allows; None when it is not ours, has expired or was used."""
        now = self._now()
        self._used = {used: expires for used, expires in self._used.items() if expires > now}
        try:
            raw = base64.urlsafe_b64decode(link + "=" * (-len(link) % 4)) if len(link) == _LENGTH else b""
        except (binascii.Error, ValueError):
            return None
        signed, signature = raw[: _FORM.size], raw[_FORM.size :]
        if not raw or not hmac.compare_digest(signature, self._signature(signed)):
            return None
        version, role, made_ms, expires_ms, _ = _FORM.unpack(signed)
        made, expires = (made_ms + 1) / 1000, expires_ms / 1000  # made: rounded up, as it was rounded down
        if version != _VERSION or made < self._began or expires <= now or signed in self._used:
            return None
        self._used[signed] = expires
        return Role(role)

    def _signature(self, signed: bytes) -> bytes:
        return hmac.new(self._key, signed, hashlib.sha256).digest()[:_SIGNATURE_BYTES]
