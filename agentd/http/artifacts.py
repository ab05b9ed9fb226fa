"""Artifacts: the files of a session, listed, sent, put in place whole or not at all, removed."""

from __future__ import annotations

from aiohttp import web
from msgspec.structs import replace

from agentd.errors import ArtifactNotFound, Conflict, Invalid, SessionNotFound, StorageFull
from agentd.http import answers, blocks, bodies
from agentd.http.routing import BodyUse, Call, Route
from agentd.http.tokens import Role
from agentd.model.requests import ArtifactView, Page, Window
from agentd.service.listing import cursor_of, key_in


async def list_all(call: Call) -> web.StreamResponse:
    """A page of artifacts, by path."""
    session_id = call.params["session_id"]
    found = call.service.artifacts(session_id)
    of = f"artifacts of {session_id}"
    after = key_in(call.query.cursor, of, str) if call.query.cursor else None
    page = await call.service.in_thread(found.list, call.query.limit, after)
    following = None if page.next is None else cursor_of(of, page.next)
    return answers.hashed(call, replace(page, next=following))


async def get(call: Call) -> web.StreamResponse:
    """Send a file. A browser must not show it: it may be anything."""
    found = call.service.artifacts(call.params["session_id"])
    opened = await call.service.in_thread(found.open, call.params["path"])
    try:
        etag = f'"{opened.modified_at}-{opened.size}"'
        if answers.is_known(call, etag):
            return answers.not_modified(call, etag)
        headers = answers.headers(call, "application/octet-stream", ETag=etag, Content_Disposition="attachment")
        headers["Content-Length"] = str(opened.size)
        response = web.StreamResponse(headers=headers)
        call.streaming = response
        await response.prepare(call.request)
        if call.request.method != "HEAD":
            await blocks.send(call, response, opened.blocks(), opened.size)
        await response.write_eof()
        return response
    finally:
        opened.file.close()


async def put(call: Call) -> web.StreamResponse:
    """Put a file in place as it comes; it is there when it is whole and durable."""
    service, request = call.service, call.request
    limit = service.settings.limits.artifact_bytes
    bodies.check_head(request, limit, "limits.artifact_bytes")
    found = service.artifacts(call.params["session_id"])
    writer = await service.in_thread(found.write, call.params["path"], limit)
    try:
        async for block in blocks.arriving(call):
            await service.in_thread(writer.write, block)
        view = await service.in_thread(writer.commit)
    finally:
        await service.in_thread(writer.close)
    return answers.json(call, view, 201, Location=request.rel_url.raw_path)


async def delete(call: Call) -> web.StreamResponse:
    """Remove a file."""
    found = call.service.artifacts(call.params["session_id"])
    await call.service.in_thread(found.delete, call.params["path"])
    return answers.empty(call)


_ALL = "/sessions/{session_id}/artifacts"
_ONE = _ALL + "/{path*}"

ROUTES = (
    Route(
        method="GET",
        path=_ALL,
        name="list_artifacts",
        summary="The session's artifacts, by path",
        handler=list_all,
        role=Role.VIEWER,
        for_tasks=True,
        query=Window,
        answers={200: Page[ArtifactView]},
        errors=(SessionNotFound, Invalid),
    ),
    Route(
        method="GET",
        path=_ONE,
        name="get_artifact",
        summary="One artifact's bytes",
        handler=get,
        role=Role.VIEWER,
        for_tasks=True,
        answers={200: "application/octet-stream"},
        errors=(SessionNotFound, ArtifactNotFound, Invalid),
    ),
    Route(
        method="PUT",
        path=_ONE,
        name="put_artifact",
        summary="Put an artifact in place, whole or not at all",
        handler=put,
        role=Role.OPERATOR,
        for_tasks=True,
        body_use=BodyUse.BYTES,
        answers={201: ArtifactView},
        errors=(SessionNotFound, Conflict, StorageFull),
    ),
    Route(
        method="DELETE",
        path=_ONE,
        name="delete_artifact",
        summary="Remove an artifact",
        handler=delete,
        role=Role.OPERATOR,
        for_tasks=True,
        answers={204: None},
        errors=(SessionNotFound, ArtifactNotFound, Invalid),
    ),
)
