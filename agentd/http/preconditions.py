"""Headers that bind a write to what the client knows: If-Match and Idempotency-Key."""

from __future__ import annotations

import hashlib
import re

from aiohttp import hdrs

from agentd.errors import Malformed, PreconditionFailed
from agentd.http.routing import Call
from agentd.model.requests import Key

MAX_KEY = 255

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"{_TAG}(?:[ \t]*,[ \t]*(?:{_TAG})?)*")
_SEQ = re.compile(r'(?<!W/)"([0-9]{1,18})"')


def if_seqs(call: Call) -> frozenset[int] | None:
    """The versions of which a write wants one to be the current (RFC 9110 §13.1.1); None when it may be any.

    A weak tag, and one that no read ever gave, is none of them.

    Raises:
        PreconditionFailed: If-Match is no list of entity tags.
    """
    given = ", ".join(call.request.headers.getall(hdrs.IF_MATCH, ())).strip()
    if hdrs.IF_MATCH not in call.request.headers or given == "*":
        return None
    if _TAGS.fullmatch(given) is None:
        raise PreconditionFailed(f"If-Match {given[:64]} is no list of versions; send the ETag of a read, or *")
    return frozenset(int(tag) for tag in _SEQ.findall(given))


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
