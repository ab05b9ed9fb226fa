"""How it went with an agent: what a page may say of one that did not answer as it should.

Nothing is remembered: a contact is of one request, and an agent that was silent is said to be silent, not what it
last said.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from email.utils import parsedate_to_datetime
from enum import StrEnum

import aiohttp
import msgspec


class Status(StrEnum):
    """What is known of an agent."""

    FRESH = "fresh"  #: it answered this very request
    UNREACHABLE = "unreachable"
    ERROR = "error"  #: it answered that it cannot
    UNAUTHORIZED = "unauthorized"
    INCOMPATIBLE = "incompatible"  #: what answered does not speak as agentd does


#: Why an agent is not fresh, by code; a sentence for people where the code alone says enough.
REASONS = {
    "slow": "it has not answered yet",
    "refused": "the connection was refused; nothing listens there",
    "dns": "its host name is not known",
    "tls": "the TLS connection failed",
    "connect_timeout": "no connection in time",
    "read_timeout": "it accepted the connection and did not answer in time",
    "closed": "the connection was lost",
    "not_running": "its daemon does not run",
    "removed": "it is no longer one of the viewer's agents",
    "no_token": "the viewer has no token for it",
    "token_rejected": "it does not know the token, or no longer",
    "forbidden": "it refuses this token here",
    "http_error": "it answered with an error",
    "bad_body": "its answer is not JSON, or half of it",
    "bad_shape": "its answer has another shape than agentd's",
    "redirect": "it answered with a redirect, which agentd never does",
    "too_large": "its answer is larger than any of agentd's",
    "not_taken": "it does not take this request; is it older than the viewer?",
    "no_such_route": "it does not know this part of the API; is it older than the viewer?",
}


class Contact(msgspec.Struct, frozen=True, kw_only=True):
    """How one agent answered, for pages and for JSON; times are RFC 3339 in UTC."""

    agent: str
    status: Status
    reason_code: str | None = None  #: a key of REASONS; None when fresh
    reason: str | None = None
    tried_at: str
    answered_at: str | None = None
    skew_ms: int | None = None  #: its clock against ours; known to the second, as the Date header is
    role: str | None = None  #: what its token may do there: viewer, operator or admin
    url: str = ""


class Trouble(Exception):
    """An agent did not answer as it should."""

    def __init__(self, status: Status, code: str, detail: str | None = None) -> None:
        self.status = status
        self.code = code
        self.detail = detail or REASONS[code]
        super().__init__(self.detail)


def trouble_of(error: BaseException) -> Trouble:
    """What an error of the HTTP library says about the agent."""
    match error:
        case Trouble():
            return error
        case aiohttp.InvalidURL():
            return Trouble(Status.UNREACHABLE, "refused", f"its URL cannot be asked: {error}")
        case aiohttp.ClientConnectorDNSError() | socket.gaierror():
            return Trouble(Status.UNREACHABLE, "dns")
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError() | ssl.SSLError():
            return Trouble(Status.UNREACHABLE, "tls", f"the TLS connection failed: {error}")
        case aiohttp.ConnectionTimeoutError():
            return Trouble(Status.UNREACHABLE, "connect_timeout")
        case TimeoutError() | asyncio.TimeoutError():
            return Trouble(Status.UNREACHABLE, "read_timeout")
        case aiohttp.ClientConnectorError():
            return Trouble(Status.UNREACHABLE, "refused", f"the connection failed: {error.strerror or error}")
        case aiohttp.ClientResponseError():
            return Trouble(Status.INCOMPATIBLE, "bad_body", "what answers there does not speak HTTP as agentd does")
        case aiohttp.ClientPayloadError():
            return Trouble(Status.UNREACHABLE, "closed", "the connection was lost in the middle of its answer")
        case aiohttp.ClientError() | OSError():
            return Trouble(Status.UNREACHABLE, "closed", str(error) or None)
    raise error


def skew_ms(date: str | None, began: float, ended: float) -> int | None:
    """How far an agent's clock is off, by its Date header (whole seconds) and ours (epoch seconds) around it.

    0 while the second it names lies within what the request took and one second of rounding.
    """
    if date is None:
        return None
    try:
        theirs = parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    if theirs + 1 < began:
        return round((theirs + 1 - began) * 1000)
    if theirs > ended:
        return round((theirs - ended) * 1000)
    return 0
