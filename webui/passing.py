"""What an agent sends, passed on to a client as it comes: it is never held, and half of it never looks whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from aiohttp import ClientResponse, web

from webui.contact import Trouble, trouble_of
from webui.upstream import CHUNK_BYTES

#: The policy of what others wrote, whatever type it claims: a browser runs nothing in it and loads nothing for it.
INERT_POLICY = "sandbox; default-src 'none'"
#: A client that takes nothing for so long is cut off.
STALLED_S = 60.0


async def passed_on(
    request: web.Request,
    exchange: AbstractAsyncContextManager[ClientResponse],
    head: Callable[[ClientResponse], web.StreamResponse],
) -> web.StreamResponse:
    """The answer of an exchange, to its end. A client that reads slowly makes the agent send slowly.

    Args:
        head: the beginning of the answer, made of the agent's; what it raises is raised.

    Raises:
        Trouble: nothing was sent yet.
        ConnectionResetError: the agent, or the client, was lost in the middle; the connection is cut.
    """
    response: web.StreamResponse | None = None
    try:
        async with exchange as answer:
            response = head(answer)
            await response.prepare(request)
            async for block in answer.content.iter_chunked(CHUNK_BYTES):
                async with asyncio.timeout(STALLED_S):
                    await response.write(block)
            await response.write_eof()
            return response
    except (Trouble, TimeoutError) as error:
        if response is None:
            raise trouble_of(error) from error
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError(str(error)) from error
