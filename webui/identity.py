"""Who looks: a role, and the tokens that go upstream for them, sealed into a cookie that only the viewer can open."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from enum import IntEnum
from typing import TypeVar

import msgspec
from cryptography.fernet import Fernet, InvalidToken

T = TypeVar("T", bound=msgspec.Struct)

#: A cookie may be 4 KiB with its name and attributes (RFC 6265 §6.1).
MAX_SEALED = 3800


class Role(IntEnum):
    """What someone may do; the agents' own roles."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @classmethod
    def named(cls, name: str | None) -> Role | None:
        """The role of a name, None where there is none of this name."""
        return cls[name.upper()] if name is not None and name.upper() in cls.__members__ else None


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who a cookie stands for.

    With `configured` it acts by the viewer's configured tokens, at most as `role`; else by the tokens it brought
    itself, by agent.
    """

    sid: str  #: random; CSRF tokens are bound to it
    role: int = Role.ADMIN
    configured: bool = False  #: it came by a link, and uses the viewer's own tokens
    tokens: dict[str, str] = {}  #: by agent
    expires_at: float  #: epoch seconds

    def token_for(self, agent: str, configured: str | None) -> str | None:
        """The token that goes to an agent for this person."""
        return self.tokens.get(agent) or (configured if self.configured else None)


class Seals:
    """Seals identities and links under one secret of at least 32 bytes; holds nothing else."""

    def __init__(self, secret: bytes) -> None:
        self._fernet = Fernet(_key(secret, b"cookie"))
        self._csrf = hashlib.sha256(b"csrf" + secret).digest()

    def seal(self, value: msgspec.Struct) -> str:
        """The value, encrypted and signed, as text that a cookie or URL can hold."""
        return self._fernet.encrypt(type(value).__name__.encode() + b" " + msgspec.json.encode(value)).decode()

    def identity(self, sealed: str, now: float) -> Identity | None:
        """The identity that was sealed; None when it is not ours or has expired."""
        found = self.open(sealed, Identity)
        return found if found is not None and found.expires_at > now else None

    def open(self, sealed: str, kind: type[T]) -> T | None:
        """What was sealed, if it is ours and of this kind."""
        if len(sealed) > 2 * MAX_SEALED:
            return None
        try:
            name, _, text = self._fernet.decrypt(sealed.encode()).partition(b" ")
            return msgspec.json.decode(text, type=kind) if name == kind.__name__.encode() else None
        except (InvalidToken, msgspec.MsgspecError, UnicodeEncodeError):
            return None

    def csrf(self, identity: Identity) -> str:
        """The token that forms of this identity carry."""
        return hmac.new(self._csrf, identity.sid.encode(), hashlib.sha256).hexdigest()

    def is_csrf(self, identity: Identity, given: str) -> bool:
        """Whether a form carries the token of this identity; in constant time."""
        return hmac.compare_digest(self.csrf(identity).encode(), given.encode("utf-8", "replace"))


def new_sid() -> str:
    """A random id for an identity."""
    return secrets.token_urlsafe(16)


def _key(secret: bytes, use: bytes) -> bytes:
    return base64.urlsafe_b64encode(hmac.new(secret, use, hashlib.sha256).digest())
