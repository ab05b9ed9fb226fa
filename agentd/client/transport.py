"""One HTTP exchange with a daemon: what is sent, what comes back, and errors as the classes they were."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from agentd.client.discovery import Endpoint
from agentd.errors import (
    AgentdError,
    Conflict,
    FieldError,
    Forbidden,
    Invalid,
    NotFound,
    SourceProblem,
    Unauthorized,
    Unreachable,
    WorkflowInvalid,
    by_code,
)
from agentd.model.reading import read
from agentd.model.task import Value

T = TypeVar("T")
Params = Sequence[tuple[str, str]]

#: Of an answer that is decoded as a whole; the largest page of tasks stays far below.
MAX_BODY_BYTES = 64 << 20
CHUNK_BYTES = 256 << 10
CONNECT_S = 5.0
READ_S = 60.0

_LOST = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError, ConnectionError)
_BY_STATUS: dict[int, type[AgentdError]] = {401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict}


class Problem(Value, frozen=True, kw_only=True):
    """An RFC 9457 answer."""

    code: str
    detail: str = ""
    title: str = ""
    errors: tuple[dict[str, str | int], ...] = ()


class Transport:
    """Connections to one daemon.

    Args:
        endpoint: where it is.
        rediscover: asked before a lost stream is resumed, since a restarted daemon may answer elsewhere.
    """

    def __init__(self, endpoint: Endpoint, rediscover: Callable[[], Endpoint] | None = None) -> None:
        self.endpoint = endpoint
        self._rediscover = rediscover
        self._http: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make ready to send; connects with the first request.

        Raises:
            Invalid: no request can be made of this URL or token.
        """
        _check(self.endpoint)
        socket = unix_socket(self.endpoint.url)
        connector = aiohttp.UnixConnector(path=socket) if socket else aiohttp.TCPConnector(limit=0)
        self._http = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
        )

    async def close(self) -> None:
        """Drop all connections."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def find_again(self) -> None:
        """Look where the daemon is now, if this transport knows how.

        Raises:
            Unreachable: there is none.
        """
        if self._rediscover is None:
            return
        found = self._rediscover()
        if found != self.endpoint:
            before, self.endpoint = self._http, found
            await self.open()  # at once, without a pause in which another request would find nothing open
            if before is not None:
                await before.close()

    @contextlib.asynccontextmanager
    async def exchange(
        self,
        method: str,
        path: str,
        *,
        params: Params = (),
        body: bytes | AsyncIterator[bytes] | None = None,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
        read_s: float | None = READ_S,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a request, if it is not an error; its body is yet to be read.

        Raises:
            Unreachable: no connection, or it was lost while the caller read.
            AgentdError: of the class that the daemon raised.
        """
        if self._http is None:
            raise RuntimeError("the client is not open; use `async with`")
        sent = {"Accept": "application/json", **(headers or {})}
        if self.endpoint.token:
            sent["Authorization"] = f"Bearer {self.endpoint.token}"
        if body is not None:
            sent["Content-Type"] = content_type
        try:
            async with self._http.request(
                method,
                _address(self.endpoint.url, path, params),
                data=body,
                headers=sent,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=read_s),
            ) as answer:
                if answer.status >= 300 and answer.status != 304:
                    raise await _error(answer)
                yield answer
        except _LOST as error:
            raise Unreachable(f"no answer from {self.endpoint.url}: {_reason(error)}") from error
        except aiohttp.ClientError as error:
            raise Unreachable(f"{self.endpoint.url} does not speak HTTP as agentd does: {error}") from error

    async def bytes(
        self,
        method: str,
        path: str,
        *,
        params: Params = (),
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        read_s: float | None = READ_S,
        repeatable: bool | None = None,
    ) -> bytes:
        """The body of the answer; a repeatable request (a GET, or one with an idempotency key) is sent once more
        when its connection was lost."""
        repeatable = method == "GET" if repeatable is None else repeatable
        while True:
            try:
                async with self.exchange(
                    method, path, params=params, body=body, headers=headers, read_s=read_s
                ) as answer:
                    return await _read(answer)
            except Unreachable as error:
                if not repeatable or isinstance(error.__cause__, aiohttp.ClientConnectorError | TimeoutError):
                    raise
                repeatable = False

    async def json(
        self,
        kind: type[T],
        method: str,
        path: str,
        *,
        params: Params = (),
        body: object = None,
        headers: dict[str, str] | None = None,
        read_s: float | None = READ_S,
        repeatable: bool | None = None,
    ) -> T:
        """The answer as a value of `kind`; `body` is sent as JSON."""
        try:
            encoded = None if body is None else msgspec.json.encode(body)
        except UnicodeEncodeError as error:
            raise Invalid(f"{error.object!r} is not text: it cannot be sent as UTF-8") from error
        text = await self.bytes(
            method, path, params=params, body=encoded, headers=headers, read_s=read_s, repeatable=repeatable
        )
        return decoded(kind, text, path)


def decoded(kind: type[T], text: bytes, path: str) -> T:
    """The value that an answer holds.

    Raises:
        AgentdError: it holds something else.
    """
    try:
        return read(text, kind)
    except msgspec.MsgspecError as error:
        raise AgentdError(f"cannot read the answer of {path}: {error}; is the daemon of another version?") from error


def unix_socket(url: str) -> str | None:
    """The path of a `unix:` URL."""
    return url.removeprefix("unix:").replace("///", "/", 1) if url.startswith("unix:") else None


def segment(text: str) -> str:
    """One path segment of an address.

    Raises:
        NotFound: nothing can have this name.
    """
    try:
        if text.strip("."):
            return quote(text, safe="")
    except UnicodeEncodeError:
        pass  # bytes that are not text
    raise NotFound(f"{text!r} is not an id")


def _check(endpoint: Endpoint) -> None:
    """Refuse what the HTTP library would fail on with an error of its own, in the middle of a request."""
    if unix_socket(endpoint.url) is None:
        try:
            url = URL(endpoint.url)
        except ValueError as error:
            raise Invalid(f"{endpoint.url!r} is not the URL of a daemon: {error}") from error
        if url.user is not None or url.password is not None:
            raise Invalid("the URL of a daemon holds no user or password; set AGENTD_TOKEN to its token")
    if endpoint.token and any(character < " " or character == "\x7f" for character in endpoint.token):
        raise Invalid("the token holds a control character; set AGENTD_TOKEN to one line")


def _address(url: str, path: str, params: Params) -> URL:
    origin = "http://localhost" if unix_socket(url) else url
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in params)
    return URL(f"{origin}{path}{'?' if query else ''}{query}", encoded=True)


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_chunked(CHUNK_BYTES):
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise AgentdError(f"{answer.url.path} answered more than {MAX_BODY_BYTES} bytes; ask for less at once")
        parts.append(part)
    return b"".join(parts)


async def _error(answer: aiohttp.ClientResponse) -> AgentdError:
    text = await _read(answer)
    try:
        problem = read(text, Problem)
    except msgspec.MsgspecError:
        if answer.status in (502, 503, 504):
            return Unreachable(f"{answer.url.origin()} answered {answer.status} {answer.reason}, and not as agentd")
        cls = _BY_STATUS.get(answer.status, AgentdError)
        return cls(f"{answer.url.path} answered {answer.status} {answer.reason}, and not as agentd")
    cls = by_code().get(problem.code) or _BY_STATUS.get(answer.status, AgentdError)
    detail = problem.detail or problem.title
    if cls is WorkflowInvalid:
        found = [
            SourceProblem(int(e.get("line", 1)), int(e.get("column", 1)), str(e.get("field")), str(e.get("message")))
            for e in problem.errors
        ]
        return WorkflowInvalid.of(detail, found)
    return cls(detail, errors=[FieldError(str(e.get("field", "")), str(e.get("message", ""))) for e in problem.errors])


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return "it did not answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        return os.strerror(error.os_error.errno) if error.os_error.errno else str(error.os_error)
    return str(error) or "the connection was lost"
