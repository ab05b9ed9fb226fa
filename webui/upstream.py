"""Requests to agents: bounded in time and size, never redirected, and never with one agent's token to another."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from agentd.client import UNREADABLE
from webui.contact import Contact, Status, Trouble, skew_ms, trouble_of
from webui.turns import Turns

Params = Sequence[tuple[str, str]]

CONNECT_S = 1.5
#: Of an answer that is read as a whole: a thousand tasks with the largest specs that make sense.
MAX_BODY_BYTES = 32 << 20
#: Of what an agent says about a refusal.
MAX_DETAIL = 500
CHUNK_BYTES = 64 << 10
#: A time shorter than this says nothing of an agent that did not answer in it: it is slow, and worth asking again.
SOON_S = 1.0
#: Silence in the middle of a body after which its connection counts as lost.
BODY_SILENCE_S = 25.0
#: What a connection to an agent fails with while its answer is read. Errors of whoever reads are not among them: those
#: of writing to a browser that left, above all.
_READING = (aiohttp.ClientPayloadError, aiohttp.ServerConnectionError, aiohttp.ClientOSError)


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """One agent as configured or found: where it is, and the viewer's own token for it."""

    name: str
    url: str  #: empty when it does not run; `unix:///path` for a unix socket
    token: str | None = None
    source: str = "flag"  #: flag, file, environment or local
    problem: str | None = None  #: why it cannot be asked at all, as a sentence

    def __repr__(self) -> str:
        return f"Agent({self.name!r}, {self.url!r})"  # a token never reaches a log


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent answered; `value` is decoded JSON, also that of a problem document."""

    contact: Contact
    http_status: int = 0  #: 0 when there was no answer
    value: Any = None
    headers: Mapping[str, str] = {}

    @property
    def ok(self) -> bool:
        """Whether it is the answer that was asked for."""
        return self.contact.status is Status.FRESH and self.http_status < 400

    @property
    def problem(self) -> dict[str, Any] | None:
        """The problem document, if the agent refused what was asked."""
        return self.value if self.http_status >= 400 and isinstance(self.value, dict) else None


class Upstream:
    """Connections to all agents. Use it as `async with Upstream() as upstream:`."""

    def __init__(self) -> None:
        self._sessions: dict[str | None, aiohttp.ClientSession] = {}
        self._turns = Turns()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    @contextlib.asynccontextmanager
    async def exchange(
        self,
        agent: Agent,
        method: str,
        path: str,
        *,
        token: str | None,
        params: Params = (),
        body: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        read_s: float | None = BODY_SILENCE_S,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer with its body yet to be read, whatever its status but a redirect.

        Raises:
            Trouble: no answer, or the connection was lost while the caller read. Other errors of the caller's pass.
        """
        if agent.problem is not None:
            raise Trouble(Status.UNREACHABLE, "not_running", agent.problem)
        if token is None:
            raise Trouble(Status.UNAUTHORIZED, "no_token")
        sent = {"Accept": "application/json", "Accept-Encoding": "identity", **(headers or {})}
        sent["Authorization"] = f"Bearer {token}"
        try:
            answer = await self._session(agent).request(
                method,
                _address(agent.url, path, params),
                data=body,
                headers=sent,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=read_s),
            )
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise trouble_of(error) from error
        except ValueError as error:  # a URL or header that cannot be sent
            raise Trouble(Status.UNREACHABLE, "refused", f"it cannot be asked: {error}") from error
        async with answer:
            if 300 <= answer.status < 400 and answer.status != 304:
                raise Trouble(Status.INCOMPATIBLE, "redirect")
            try:
                yield answer
            except _READING as error:
                raise trouble_of(error) from error

    async def ask(
        self,
        agent: Agent,
        method: str,
        path: str,
        *,
        token: str | None,
        within_s: float,
        params: Params = (),
        body: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        shape: Any = Any,
    ) -> Answer:
        """A whole answer in JSON within a time, or why there is none. Raises nothing that an agent can cause.

        Args:
            shape: a type, where only some fields of a large answer are wanted; of a problem the whole is.
        """
        began = time.time()
        known: dict[str, Any] = {"agent": agent.name, "url": agent.url, "tried_at": rfc3339(began)}
        asked = False
        try:
            async with asyncio.timeout(within_s), self._turns.one():
                asked, began = True, time.time()
                async with self.exchange(
                    agent, method, path, token=token, params=params, body=body, headers=headers, read_s=None
                ) as answer:
                    text = await _read(answer)
            ended = time.time()
            known["answered_at"] = rfc3339(ended)
            known["skew_ms"] = skew_ms(answer.headers.get("Date"), began, ended)
            known["role"] = _text(answer.headers.get("Agentd-Role"))
            value = _value(text, answer, shape)
        except TimeoutError:
            code = "slow" if within_s < SOON_S or not asked else "read_timeout"
            detail = "it did not answer" if asked else "there are so many agents that it was not asked"
            trouble = Trouble(Status.UNREACHABLE, code, f"{detail} within {within_s:.2g} s")
        except Trouble as error:
            trouble = error
        else:
            contact = Contact(status=Status.FRESH, **known)
            return Answer(contact=contact, http_status=answer.status, value=value, headers=answer.headers)
        contact = Contact(status=trouble.status, reason_code=trouble.code, reason=trouble.detail, **known)
        return Answer(contact=contact)

    async def answers(self, agent: Agent, token: str | None, within_s: float) -> bool:
        """Whether an agent answers anything at all within a time."""
        try:
            async with (
                asyncio.timeout(within_s),
                self.exchange(agent, "GET", "/healthz", token=token, read_s=None),
            ):
                return True
        except (TimeoutError, Trouble):
            return False

    def _session(self, agent: Agent) -> aiohttp.ClientSession:
        socket = agent.url.removeprefix("unix://") if agent.url.startswith("unix:") else None
        found = self._sessions.get(socket)
        if found is None:
            connector = aiohttp.UnixConnector(path=socket, limit=0) if socket else aiohttp.TCPConnector(limit=0)
            found = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
            )
            self._sessions[socket] = found
        return found


def contact_of(agent: Agent, trouble: Trouble, tried_at: str | None = None) -> Contact:
    """How it is with an agent in trouble, since a time (as `rfc3339`) or now."""
    return Contact(
        agent=agent.name,
        status=trouble.status,
        reason_code=trouble.code,
        reason=trouble.detail,
        tried_at=tried_at or rfc3339(time.time()),
        url=agent.url,
    )


def segment(text: str) -> str:
    """One path segment of an address."""
    return quote(text, safe="")


def _address(url: str, path: str, params: Params) -> URL:
    origin = "http://localhost" if url.startswith("unix:") else url.rstrip("/")
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in params)
    return URL(f"{origin}{path}{'?' if query else ''}{query}", encoded=True)


def _text(header: str | None) -> str | None:
    """A header as text; bytes of it that are none come as lone surrogates, which nothing can be written with."""
    return header.encode(errors="replace").decode() if header is not None else None


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    if (answer.content_length or 0) > MAX_BODY_BYTES:
        raise Trouble(Status.INCOMPATIBLE, "too_large")
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_chunked(CHUNK_BYTES):
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise Trouble(Status.INCOMPATIBLE, "too_large")
        parts.append(part)
    return b"".join(parts)


def _value(text: bytes, answer: aiohttp.ClientResponse, shape: Any) -> Any:
    """What an agent says: what was asked for, or a problem that is about this request and not about the agent."""
    if answer.status == 401:
        raise Trouble(Status.UNAUTHORIZED, "token_rejected")
    if not text and answer.status in (202, 204, 304) and shape is Any:
        return None
    try:
        value = msgspec.json.decode(text, type=shape if answer.status < 400 else Any)
    except msgspec.ValidationError as error:
        raise Trouble(Status.INCOMPATIBLE, "bad_shape") from error
    except UNREADABLE as error:
        if answer.status >= 500:
            raise Trouble(Status.ERROR, "http_error", f"it answered {answer.status}, and not as agentd does") from error
        raise Trouble(Status.INCOMPATIBLE, "bad_body") from error
    if answer.status < 400:
        return value
    code = value.get("code") if isinstance(value, dict) else None
    if code == "route_not_found":
        raise Trouble(Status.INCOMPATIBLE, "no_such_route")
    if answer.status == 500 or code is None:
        detail = value.get("detail") if isinstance(value, dict) else None
        said = f": {detail}"[:MAX_DETAIL] if isinstance(detail, str) else ""
        raise Trouble(Status.ERROR, "http_error", f"it answered {answer.status}{said}")
    return value


def rfc3339(epoch_s: float) -> str:
    """A time as contacts have it, in UTC with milliseconds."""
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
