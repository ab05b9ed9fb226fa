"""An artifact to look at: a text as text, whatever it says, and an image; all else is there to download."""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import ClientResponse, web

from webui.contact import Status, Trouble
from webui.logs import ansi
from webui.passing import INERT_POLICY, passed_on
from webui.refusals import Refusal
from webui.rendering import Page
from webui.routes import Route
from webui.upstream import Agent, contact_of, segment
from webui.visit import Visit

#: Of a text that is shown; the rest is in the download.
TEXT_BYTES = 256 << 10
#: Lines of a text: each has its own colours.
TEXT_LINES = 10_000
READ_S = 10.0
#: Larger images are not shown.
IMAGE_BYTES = 32 << 20
#: The types that an image is sent as, by the end of its name, whatever the file holds: none of them can run anything.
IMAGES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}


async def preview(visit: Visit) -> Page:
    """The page of one artifact.

    Raises:
        Refusal: there is none, or the agent refuses.
    """
    agent, path = visit.agent(), visit.part("path")
    model: dict[str, object] = {"path": path, "kind": "unknown", "bytes": None, "text": None}
    html, shortened = "", False
    if image_type(path) is not None:
        model["kind"] = "image"
    elif (found := await _beginning(visit, agent)) is not None:
        beginning, size = found
        text = text_of(beginning)
        model |= {"kind": "other" if text is None else "text", "bytes": size, "text": text}
        if text is not None:
            html, lines_cut = await asyncio.to_thread(ansi.lines, text, TEXT_LINES)
            shortened = lines_cut or size is None or size > len(beginning)
    session_id = visit.part("session")
    extra = {"agent": agent.name, "session_id": session_id, "html": html, "shortened": shortened}
    return Page(template="preview.html", title=path, model=model, extra=extra, live=None)


async def image(visit: Visit) -> web.StreamResponse:
    """The bytes of an image, as the type that its name says and no other.

    Raises:
        Refusal: it is none, too large, or the agent did not answer.
    """
    agent, path = visit.agent(), visit.part("path")
    kind = image_type(path)
    if kind is None:
        raise Refusal(415, "not_shown", f"{path!r} is no image that is shown", hint="Download it.")

    def head(answer: ClientResponse) -> web.StreamResponse:
        _check(answer.status, path)
        if answer.content_length is None or answer.content_length > IMAGE_BYTES:
            raise Refusal(413, "too_large", f"{path!r} is too large to be shown", hint="Download it.")
        response = web.StreamResponse(
            headers={
                "Content-Type": kind,
                "Content-Disposition": "inline",
                "Content-Security-Policy": INERT_POLICY,
                "X-Content-Type-Options": "nosniff",
            }
        )
        response.content_length = answer.content_length
        return response

    try:
        return await passed_on(visit.request, _exchange(visit, agent), head)
    except Trouble as trouble:
        raise Refusal(503, f"agent_{trouble.status}", f"{agent.name} did not answer: {trouble.detail}") from None


def image_type(path: str) -> str | None:
    """The type that a file of this name is shown as; None: not as an image."""
    name, dot, end = path.rpartition("/")[2].rpartition(".")
    return IMAGES.get(end.lower()) if name and dot else None


def text_of(beginning: bytes) -> str | None:
    """The text that a file begins with; None when it is no text in UTF-8, but for a character that is cut off."""
    if b"\0" in beginning:
        return None
    for cut in range(4):
        with contextlib.suppress(UnicodeDecodeError):
            return beginning[: len(beginning) - cut].decode("utf-8-sig")
        if len(beginning) < TEXT_BYTES:
            return None
    return None


async def _beginning(visit: Visit, agent: Agent) -> tuple[bytes, int | None] | None:
    """The first bytes of the file and its size; None when they are unknown, which the visit's contacts explain."""
    parts: list[bytes] = []
    left = TEXT_BYTES
    try:
        async with asyncio.timeout(READ_S), _exchange(visit, agent) as answer:
            _check(answer.status, visit.part("path"))
            while left and (part := await answer.content.read(left)):
                parts.append(part)
                left -= len(part)
            return b"".join(parts), answer.content_length
    except Trouble as trouble:
        visit.note(contact_of(agent, trouble))
    except TimeoutError:
        visit.note(contact_of(agent, Trouble(Status.UNREACHABLE, "read_timeout", f"not within {READ_S:g} s")))
    return None


def _exchange(visit: Visit, agent: Agent) -> contextlib.AbstractAsyncContextManager[ClientResponse]:
    path = "/".join(map(segment, visit.part("path").split("/")))
    at = f"/sessions/{segment(visit.part('session'))}/artifacts/{path}"
    return visit.upstream.exchange(agent, "GET", at, token=visit.token_for(agent), headers={"Accept": "*/*"})


def _check(status: int, path: str) -> None:
    if status == 404:
        hint = "The session's page lists them."
        raise Refusal(404, "artifact_not_found", f"there is no artifact {path!r}", hint=hint)
    if status != 200:
        raise Refusal(502 if status < 400 else status, "refused", f"the agent answered {status} for {path!r}")


_SESSION = "/a/{agent}/s/{session}"

ROUTES: tuple[Route, ...] = (
    ("GET", _SESSION + "/preview/{path:.+}", preview),
    ("GET", _SESSION + "/image/{path:.+}", image),
)
