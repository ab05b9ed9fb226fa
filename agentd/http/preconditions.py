"""Headers that bind a write to what the client knows: If-Match and Idempotency-Key."""

from __future__ import annotations

import hashlib

from aiohttp import hdrs

from agentd.errors import Malformed, PreconditionFailed
from agentd.http.routing import Call
from agentd.model.requests import Key

MAX_KEY = 255


def if_seq(call: Call) -> int | None:
    """The version that a write is bound to; None when it is not.

    Raises:
        PreconditionFailed: If-Match names something that is never a current version.
    """
    given = call.request.headers.get(hdrs.IF_MATCH)
    if given is None or given.strip() == "*":
        return None
    text = given.strip()
    if len(text) > 2 and text[0] == text[-1] == '"' and text[1:-1].isascii() and text[1:-1].isdigit():
        return int(text[1:-1])
    raise PreconditionFailed(f"If-Match {text[:64]} is no current version; send the ETag of a read, or *")


def key(call: Call) -> Key | None:
    """The Idempotency-Key with the body it came with, as hashes; it is good for this route and this path only.

    Raises:
        Malformed: it is empty, too long or not printable ASCII.
    """
    given = call.request.headers.get("Idempotency-Key")
    if given is None:
        return None
    if not (0 < len(given) <= MAX_KEY and given.isascii() and given.isprintable()):
        raise Malformed.field("Idempotency-Key", f"must be 1 to {MAX_KEY} printable ASCII characters")
    place = f"{call.route.handler.__qualname__}\n{'/'.join(call.params.values())}\n{given}"
    return Key(key_hash=_hash(place.encode()), body_hash=_hash(call.raw_body))


def _hash(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=16).hexdigest()
