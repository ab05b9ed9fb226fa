"""Forms as browsers send them: the CSRF token of each, and the parts of an upload, read as they come."""

from __future__ import annotations

import contextlib

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from webui.refusals import Refusal

#: The field of the token. In an upload it comes first, so that no file is read before it.
CSRF_FIELD = "csrf"
#: A form with files.
UPLOAD = "multipart/form-data"
FORMS = ("application/x-www-form-urlencoded", UPLOAD)

_PARTS = web.RequestKey("parts", MultipartReader)
#: More than a token has.
_TOKEN_BYTES = 256


async def token_in(request: web.Request) -> str | None:
    """The CSRF token of a form, None without one. Of an upload, the files behind it are left to be streamed.

    Raises:
        web.HTTPRequestEntityTooLarge: a form without files is larger than any of ours.
    """
    if request.content_type != UPLOAD:
        field = (await request.post()).get(CSRF_FIELD)
        return field if isinstance(field, str) else None
    try:
        part = await (await parts_of(request)).next()
        if not isinstance(part, BodyPartReader) or part.name != CSRF_FIELD:
            return None
        token = b""
        while len(token) < _TOKEN_BYTES and (block := await part.read_chunk(_TOKEN_BYTES)):
            token += block
        return token.decode("ascii", "replace")
    except (ValueError, HttpProcessingError):  # no multipart at all
        return None


async def parts_of(request: web.Request) -> MultipartReader:
    """The parts of an upload, to be read as they come; a token that came first has been read.

    Raises:
        Refusal: it is none.
    """
    found: MultipartReader | None = request.get(_PARTS)
    if found is None and request.content_type == UPLOAD:
        with contextlib.suppress(ValueError):  # no boundary, or one too long
            found = request[_PARTS] = await request.multipart()
    if found is None:
        raise Refusal(415, "unsupported_media_type", f"send an upload as {UPLOAD}, with a boundary")
    return found
