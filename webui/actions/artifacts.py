"""Upload, download and delete artifacts: files go through as they come, of any size, and are never held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import quote

from aiohttp import BodyPartReader, ClientResponse, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from webui.actions.outcomes import Action, act, ask_first, not_done, posted, see_other, session_page, session_path
from webui.contact import Status, Trouble
from webui.forms import parts_of
from webui.identity import Role
from webui.passing import INERT_POLICY, passed_on
from webui.refusals import Refusal
from webui.rendering import Page
from webui.routes import Route
from webui.upstream import CHUNK_BYTES, Agent, Answer, contact_of, segment
from webui.visit import Visit

#: An upload in which nothing moves for so long is given up, in seconds.
STALLED_S = 60.0
#: An upload that goes on for so long is given up, however large the file.
UPLOAD_S = 86_400.0
#: Files of one form.
MAX_FILES = 1000
_FIELD_BYTES = 4096


async def upload(visit: Visit) -> Page | web.Response:
    """Put the files of a form into the session, one after the other, each whole or not at all.

    Raises:
        Refusal: the form has no file, too many, or did not come whole.
    """
    visit.require(Role.OPERATOR)
    agent = visit.agent()
    folder, stored = "", 0
    parts = await parts_of(visit.request)
    while (part := await _next(parts)) is not None:
        name = (part.filename or "").rpartition("/")[2]
        if part.name == "folder":
            folder = (await part.read_chunk(_FIELD_BYTES)).decode("utf-8", "replace").strip().strip("/")
        if part.name != "file" or not name:
            continue
        if stored == MAX_FILES:
            raise Refusal(
                422, "invalid", f"file: a form may have {MAX_FILES}", hint="Those were stored; send the rest."
            )
        answer = await _put(visit, agent, f"{folder}/{name}" if folder else name, part)
        if not answer.ok:
            title = f"Upload {name}" + (f" ({stored} before it stored)" if stored else "")
            again = "Sending it again is safe: a file is there whole or not at all."
            return not_done(visit, answer, Action(title=title, truth=session_page(visit), again=again), {})
        stored += 1
    if not stored:
        raise Refusal(422, "invalid", "file: choose at least one", hint="Go back and choose a file.")
    return see_other(visit, f"{session_page(visit)}#artifacts")


async def _next(parts: MultipartReader) -> BodyPartReader | None:
    """The next field of an upload; None at its end."""
    try:
        async with asyncio.timeout(STALLED_S):
            part = await parts.next()
    except (ValueError, OSError, HttpProcessingError) as error:
        raise _not_whole() from error
    return part if isinstance(part, BodyPartReader) else None


class _File:
    """A file of a form, as it comes."""

    def __init__(self, part: BodyPartReader) -> None:
        self._part = part
        self.broken = False  #: the form did not come whole

    async def blocks(self, patience: asyncio.Timeout) -> AsyncIterator[bytes]:
        """Its bytes; each block renews the patience."""
        clock = asyncio.get_running_loop().time
        while True:
            try:
                block = await self._part.read_chunk(CHUNK_BYTES)
            except Exception:
                self.broken = True
                raise
            patience.reschedule(clock() + STALLED_S)
            if not block:
                return
            yield block


async def _put(visit: Visit, agent: Agent, path: str, part: BodyPartReader) -> Answer:
    """Send one file on as it comes.

    Raises:
        Refusal: it did not come whole; then nothing of it is kept.
    """
    file = _File(part)
    at = f"{session_path(visit)}/artifacts/{_quoted(path)}"
    token = visit.token_for(agent, "PUT", at)
    sent = {"Content-Type": "application/octet-stream"}
    try:
        async with asyncio.timeout(STALLED_S) as patience:
            answer = await visit.upstream.ask(
                agent, "PUT", at, token=token, within_s=UPLOAD_S, body=file.blocks(patience), headers=sent
            )
    except TimeoutError:
        trouble = Trouble(Status.UNREACHABLE, "read_timeout", f"nothing moved for {STALLED_S:g} s")
        answer = Answer(contact=contact_of(agent, trouble))
    if file.broken and not answer.ok:
        raise _not_whole()
    visit.note(answer.contact)
    return answer


def _not_whole() -> Refusal:
    return Refusal(
        400, "malformed", "the form did not come whole; nothing of that file was kept", hint="Send it again."
    )


async def download(visit: Visit) -> Page | web.StreamResponse:
    """The file, to be saved: never a page of ours. `?ask=delete` asks before it is deleted instead.

    Raises:
        Refusal: there is none, or the agent did not answer.
    """
    if visit.query.get("ask") == "delete":
        return _ask_delete(visit)
    agent = visit.agent()
    exchange = visit.upstream.exchange(
        agent, "GET", _at_agent(visit), token=visit.token_for(agent), headers={"Accept": "*/*"}
    )

    def head(answer: ClientResponse) -> web.StreamResponse:
        if answer.status != 200:
            raise _no_file(answer.status, visit.part("path"))
        response = web.StreamResponse(headers=_headers(visit.part("path")))
        response.content_length = answer.content_length
        return response

    try:
        return await passed_on(visit.request, exchange, head)
    except Trouble as trouble:
        raise Refusal(503, f"agent_{trouble.status}", f"{agent.name} did not answer: {trouble.detail}") from None


def _no_file(status: int, path: str) -> Refusal:
    if status == 404:
        return Refusal(
            404, "artifact_not_found", f"there is no artifact {path!r}", hint="The session's page lists them."
        )
    return Refusal(502 if status < 400 else status, "refused", f"the agent answered {status} for the artifact {path!r}")


def _headers(path: str) -> dict[str, str]:
    name = quote(path.rpartition("/")[2], safe="")
    return {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",  # RFC 6266
        "Content-Security-Policy": INERT_POLICY,
    }


def _ask_delete(visit: Visit) -> Page:
    visit.require(Role.OPERATOR)
    path = visit.part("path")
    return ask_first(
        title=f"Delete {path}?",
        says=["What is gone does not come back."],
        button="Delete it",
        at=f"{session_page(visit)}/artifacts/{_quoted(path)}/delete",
        truth=session_page(visit),
    )


async def delete(visit: Visit) -> Page | web.Response:
    """Remove a file."""
    form = await posted(visit)
    answer = await act(visit, visit.agent(), "DELETE", _at_agent(visit))
    if not answer.ok:
        return not_done(visit, answer, Action(title="Delete the artifact", truth=session_page(visit)), form)
    return see_other(visit, f"{session_page(visit)}#artifacts")


def _at_agent(visit: Visit) -> str:
    return f"{session_path(visit)}/artifacts/{_quoted(visit.part('path'))}"


def _quoted(path: str) -> str:
    return "/".join(map(segment, path.split("/")))


_ARTIFACTS = "/a/{agent}/s/{session}/artifacts"

ROUTES: tuple[Route, ...] = (
    ("POST", _ARTIFACTS, upload),
    ("GET", _ARTIFACTS + "/{path:.+}", download),
    ("POST", _ARTIFACTS + "/{path:.+}/delete", delete),
)
