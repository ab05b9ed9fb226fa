"""Sessions as archives: sent as they are read, taken in as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from aiohttp import hdrs, web

from agentd.errors import (
    Invalid,
    Malformed,
    QueueFull,
    SessionExists,
    SessionNotFound,
    SessionReadOnly,
    StorageFull,
    TooLarge,
    UnsupportedMediaType,
)
from agentd.http import answers, bodies, sse
from agentd.http.routing import BodyUse, Call, Route
from agentd.http.tokens import Role
from agentd.model.requests import SessionView

MEDIA_TYPE = "application/x-tar"
BLOCK = 256 << 10


async def export(call: Call) -> web.StreamResponse:
    """Send a session."""
    session_id = call.params["session_id"]
    found = await call.service.export_session(session_id)
    headers = answers.headers(call, MEDIA_TYPE, Content_Disposition=f'attachment; filename="{session_id}.tar"')
    response = web.StreamResponse(headers=headers)
    call.streaming = response
    await response.prepare(call.request)
    if call.request.method != "HEAD":
        while block := await call.service.in_thread(_gathered, found.blocks):
            call.check_admitted()
            async with asyncio.timeout(sse.STALLED_S * 3):
                await response.write(block)
    await response.write_eof()
    return response


def _gathered(blocks: Iterator[bytes]) -> bytes:
    """The next blocks, as many as are worth a write; nothing at the end."""
    found = bytearray()
    for block in blocks:
        found += block
        if len(found) >= BLOCK:
            break
    return bytes(found)


async def take(call: Call) -> web.StreamResponse:
    """Make a session of the archive in the body."""
    request = call.request
    limit = call.service.settings.limits.import_bytes
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise UnsupportedMediaType("send the archive without Content-Encoding")
    if (request.content_length or 0) > limit:
        raise TooLarge(f"the archive is larger than {limit} bytes (limits.import_bytes)")
    view = await call.service.import_session(call.params["session_id"], _arriving(call))
    return answers.json(call, view, 201, Location=f"/sessions/{view.session_id}", ETag=answers.version_tag(view.seq))


async def _arriving(call: Call) -> AsyncIterator[bytes]:
    """The body in blocks; the client is told to send it once the session can be made."""
    await bodies.invite(call.request)
    gathered = bytearray()
    try:
        while not call.request.content.at_eof():
            async with asyncio.timeout(sse.STALLED_S * 3):
                gathered += await call.request.content.readany()
            if len(gathered) >= BLOCK:
                call.check_admitted()
                yield bytes(gathered)
                gathered.clear()
    except TimeoutError as error:
        raise Malformed(f"nothing more of the archive came for {sse.STALLED_S * 3:.0f} s; nothing was kept") from error
    except (ConnectionError, web.RequestPayloadError) as error:
        raise Malformed("the archive did not come whole; nothing was kept") from error
    call.check_admitted()
    if gathered:
        yield bytes(gathered)


_SESSION = "/sessions/{session_id}"

ROUTES = (
    Route(
        method="GET",
        path=_SESSION + "/export",
        name="export_session",
        summary="The session as one archive",
        description="A tar file: journal, records, output and artifacts as of one event, and a manifest with the "
        "SHA-256 of each. Without `workspace/` and `home/`, which are the tasks' own.",
        handler=export,
        role=Role.VIEWER,
        answers={200: MEDIA_TYPE},
        errors=(SessionNotFound, SessionReadOnly),
    ),
    Route(
        method="PUT",
        path=_SESSION + "/import",
        name="import_session",
        summary="Make a session of an archive that the export gave",
        description="Verified to the last byte, and there as a whole or not at all. Nothing starts: what had not ended "
        "when it was exported is cancelled. The id is that of the archive.",
        handler=take,
        role=Role.OPERATOR,
        body_use=BodyUse.BYTES,
        answers={201: SessionView},
        errors=(Invalid, SessionExists, TooLarge, UnsupportedMediaType, QueueFull, StorageFull),
    ),
)
