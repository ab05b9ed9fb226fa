"""Sessions as archives: sent as they are read, taken in as they come."""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web

from agentd.errors import QueueFull, SessionExists, SessionNotFound, SessionReadOnly, StorageFailed, StorageFull
from agentd.http import answers, blocks, bodies
from agentd.http.routing import BodyUse, Call, Route
from agentd.http.tokens import Role
from agentd.model.requests import SessionView

MEDIA_TYPE = "application/x-tar"


async def export(call: Call) -> web.StreamResponse:
    """Send a session."""
    session_id = call.params["session_id"]
    found = await call.service.export_session(session_id)
    headers = answers.headers(call, MEDIA_TYPE, Content_Disposition=f'attachment; filename="{session_id}.tar"')
    response = web.StreamResponse(headers=headers)
    call.streaming = response
    await response.prepare(call.request)
    if call.request.method != "HEAD":
        await blocks.send(call, response, iter(lambda: _gathered(found.blocks), b""))
    await response.write_eof()
    return response


def _gathered(parts: Iterator[bytes]) -> bytes:
    """The next parts, as many as are worth a write; nothing at the end."""
    found = bytearray()
    for part in parts:
        found += part
        if len(found) >= blocks.BLOCK:
            break
    return bytes(found)


async def take(call: Call) -> web.StreamResponse:
    """Make a session of the archive in the body."""
    bodies.check_head(call.request, call.service.settings.limits.import_bytes, "limits.import_bytes")
    view = await call.service.import_session(call.params["session_id"], blocks.arriving(call))
    return answers.json(call, view, 201, Location=f"/sessions/{view.session_id}", ETag=answers.version_tag(view.seq))


_SESSION = "/sessions/{session_id}"

ROUTES = (
    Route(
        method="GET",
        path=_SESSION + "/export",
        name="export_session",
        summary="The session as one archive",
        description="A tar file: journal, records, output and artifacts as of one event, and a manifest with the "
        "SHA-256 of each. Without `workspace/` and `home/`, which are the tasks' own. An artifact that cannot be read "
        "is named in an error; where the answer breaks off later, what came of it is no archive.",
        handler=export,
        role=Role.VIEWER,
        answers={200: MEDIA_TYPE},
        errors=(SessionNotFound, SessionReadOnly, StorageFailed),
    ),
    Route(
        method="PUT",
        path=_SESSION + "/import",
        name="import_session",
        summary="Make a session of an archive that the export gave",
        description="Verified to the last byte, and there as a whole or not at all; what is no archive of this session "
        "is answered 422. Nothing starts: what had not ended when it was exported is cancelled.",
        handler=take,
        role=Role.OPERATOR,
        body_use=BodyUse.BYTES,
        answers={201: SessionView},
        errors=(SessionExists, QueueFull, StorageFull),
    ),
)
