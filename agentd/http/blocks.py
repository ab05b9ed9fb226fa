"""Bodies too large to be held, in blocks: sent as they are read, taken in as they come."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator

from aiohttp import web

from agentd.errors import Malformed, RequestTimeout
from agentd.http import bodies, sse
from agentd.http.routing import Call

BLOCK = 256 << 10
#: A body of which nothing comes for so long is given up.
SILENCE_S = 60.0


async def send(call: Call, response: web.StreamResponse, blocks: Iterator[bytes], size: float = math.inf) -> None:
    """Write blocks, each read in a thread, up to an empty one or the size; at the latest at their end.

    Raises:
        ConnectionResetError: they end before the size.
        TimeoutError: the client takes nothing.
    """
    left = size
    while left > 0 and (block := await call.service.in_thread(next, blocks, b"")):
        left -= len(block)
        call.check_admitted()
        async with asyncio.timeout(sse.STALLED_S * 3):
            await response.write(block)
    if 0 < left < math.inf:
        raise ConnectionResetError("it was cut while it was sent")


async def arriving(call: Call) -> AsyncIterator[bytes]:
    """The body; who waits to be asked for it is asked now.

    Raises:
        Malformed: it does not come whole.
        RequestTimeout: it stops coming.
        Unauthorized: the token is no longer good, also once all has come.
    """
    content = call.request.content
    await bodies.invite(call.request)
    gathered = bytearray()
    try:
        while not content.at_eof():
            async with asyncio.timeout(SILENCE_S):
                gathered += await content.readany()
            if len(gathered) >= BLOCK:
                call.check_admitted()
                yield bytes(gathered)
                gathered.clear()
    except TimeoutError:
        raise RequestTimeout(f"nothing came for {SILENCE_S:.0f} s; nothing was kept") from None
    except (ConnectionError, web.RequestPayloadError) as error:
        raise Malformed("the body did not come whole; nothing was kept") from error
    if gathered:
        yield bytes(gathered)
    call.check_admitted()
