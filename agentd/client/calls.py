"""The connection that a client's methods share, and the paths of what they name."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

from agentd.client.discovery import Endpoint
from agentd.client.streams import PATIENCE_S, OnLost
from agentd.client.transport import Transport, segment
from agentd.errors import Unreachable

T = TypeVar("T")


class Calls:
    """One daemon.

    Args:
        url: `http://host:port`, or `unix:///path` for a unix socket.
        token: the bearer token, if there is one.
        rediscover: where the daemon is now; asked before a lost stream is resumed.
        patience_s: how long a lost stream is tried again.
        on_lost: told once each time a stream is lost.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        rediscover: Callable[[], Endpoint] | None = None,
        patience_s: float = PATIENCE_S,
        on_lost: OnLost | None = None,
    ) -> None:
        self._transport = Transport(Endpoint(url.rstrip("/"), token), rediscover)
        self._patience_s = patience_s
        self._on_lost = on_lost
        self._json = self._transport.json

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

    async def find_again(self) -> None:
        """Look where the daemon is now; without one, or without `rediscover`, stay as it was."""
        with suppress(Unreachable):
            await self._transport.find_again()

    async def _create(self, kind: type[T], path: str, body: object, key: str | None) -> T:
        headers = {"Idempotency-Key": key or secrets.token_hex(16)}
        return await self._json(kind, "POST", path, body=body, headers=headers, repeatable=True)


def session_path(session_id: str) -> str:
    """Where a session is."""
    return f"/sessions/{segment(session_id)}"


def task_path(task_id: str) -> str:
    """Where a task is."""
    return f"/tasks/{segment(task_id)}"


def artifact_path(session_id: str, path: str) -> str:
    """Where an artifact is."""
    return f"{session_path(session_id)}/artifacts/" + "/".join(segment(part) for part in path.split("/"))


def if_match(seq: int | None) -> dict[str, str] | None:
    """The header that makes a write fail unless the session is still at this seq."""
    return None if seq is None else {"If-Match": f'"{seq}"'}


def given(**values: int | str | None) -> list[tuple[str, str]]:
    """Query parameters; those that are None are left out."""
    return [(name, str(value)) for name, value in values.items() if value is not None]
