"""Who looks: a role, and the tokens that go upstream for them, sealed into a cookie that only the viewer can open."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from enum import IntEnum

import msgspec
from cryptography.fernet import Fernet, InvalidToken

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


#: Parts of an agent's API that an operator may write to; all others take an admin, those to come included.
_OPERATED = frozenset({"sessions", "tasks", "workflows"})


def role_needed(method: str, path: str) -> Role:
    """The role that a request to an agent takes; `path` is decoded and begins with a slash."""
    if method in ("GET", "HEAD"):
        return Role.VIEWER
    return Role.OPERATOR if path.split("/")[1] in _OPERATED else Role.ADMIN


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who a cookie stands for.

    It acts by the tokens it brought, each at its own agent and nowhere else; at other agents, if it came by a link,
    by the viewer's configured tokens, and there at most as the link allows.
    """

    sid: str  #: random; CSRF tokens are bound to it
    role: int  #: the highest that it has anywhere: what pages of the viewer itself go by
    configured: int = 0  #: the most that it may do by the viewer's own tokens; 0: it may not use them
    tokens: dict[str, str] = {}  #: by agent
    expires_at: float  #: epoch seconds

    def token_for(self, agent: str, configured: str | None) -> str | None:
        """The token that goes to an agent for this person."""
        return self.tokens.get(agent) or (configured if self.configured else None)

    def most_at(self, agent: str) -> Role:
        """The most that it may do at an agent, which may allow less."""
        if agent in self.tokens:
            return Role.ADMIN  # the agent alone knows what its token may do
        return Role(self.configured or Role.VIEWER)


class Seals:
    """Seals identities under the viewer's secret; holds nothing else."""

    def __init__(self, secret: bytes) -> None:
        self._fernet = Fernet(base64.urlsafe_b64encode(derived(secret, b"cookie")))
        self._csrf = derived(secret, b"csrf")
        #: Names the secret, and tells nothing of it: viewers on one host share cookies, whatever their ports.
        self.tag = derived(secret, b"tag").hex()[:8]

    def seal(self, identity: Identity) -> str:
        """The identity, encrypted and signed, as text that a cookie can hold."""
        return self._fernet.encrypt(msgspec.json.encode(identity)).decode().rstrip("=")

    def identity(self, sealed: str, now: float) -> Identity | None:
        """The identity that was sealed; None when it is not ours or has expired."""
        if len(sealed) > MAX_SEALED:
            return None
        try:
            text = self._fernet.decrypt(sealed.encode() + b"=" * (-len(sealed) % 4))
            found = msgspec.json.decode(text, type=Identity)
        except (InvalidToken, msgspec.MsgspecError, UnicodeEncodeError):
            return None
        return found if found.expires_at > now else None

    def csrf(self, identity: Identity) -> str:
        """The token that forms of this identity carry."""
        return hmac.new(self._csrf, identity.sid.encode(), hashlib.sha256).hexdigest()

    def is_csrf(self, identity: Identity, given: str) -> bool:
        """Whether a form carries the token of this identity; in constant time."""
        return hmac.compare_digest(self.csrf(identity).encode(), given.encode("utf-8", "replace"))


def new_sid() -> str:
    """A random id for an identity."""
    return secrets.token_urlsafe(16)


def derived(secret: bytes, use: bytes) -> bytes:
    """A key of 32 bytes for one use of the secret."""
    return hmac.new(secret, use, hashlib.sha256).digest()
