"""Forms as browsers send them: the CSRF token of each, and the parts of an upload, read as they come."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from webui.refusals import Refusal

#: The field of the token. In an upload it comes first, so that no file is read before it.
CSRF_FIELD = "csrf"
#: A form with files.
UPLOAD = "multipart/form-data"
FORMS = ("application/x-www-form-urlencoded", UPLOAD)

#: How long a form without files may take to arrive, and an upload until its first file.
FORM_S = 30.0

_PARTS = web.RequestKey("parts", MultipartReader)
#: More than a token has.
_TOKEN_BYTES = 256


async def fields_of(request: web.Request) -> Mapping[str, Any]:
    """The fields of a form without files.

    Raises:
        Refusal: it is none, or did not arrive in time.
        web.HTTPRequestEntityTooLarge: it is larger than any of ours.
    """
    async with _arriving():
        return await request.post()


async def token_in(request: web.Request) -> str | None:
    """The CSRF token of a form, None without one. Of an upload, the files behind it are left to be streamed.

    Raises:
        Refusal: it is no form, or did not arrive in time.
        web.HTTPRequestEntityTooLarge: a form without files is larger than any of ours.
    """
    if request.content_type != UPLOAD:
        field = (await fields_of(request)).get(CSRF_FIELD)
        return field if isinstance(field, str) else None
    async with _arriving():
        part = await (await parts_of(request)).next()
        if not isinstance(part, BodyPartReader) or part.name != CSRF_FIELD:
            return None
        token = b""
        while len(token) < _TOKEN_BYTES and (block := await part.read_chunk(_TOKEN_BYTES)):
            token += block
        return token.decode("ascii", "replace")


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


@contextlib.asynccontextmanager
async def _arriving() -> AsyncIterator[None]:
    """While a form is read: whatever can be wrong with one is its sender's error."""
    try:
        async with asyncio.timeout(FORM_S):
            yield
    except TimeoutError:
        raise Refusal(408, "malformed", f"the form did not arrive within {FORM_S:g} s") from None
    except (
        ValueError,
        LookupError,
        RuntimeError,
        zlib.error,
        HttpProcessingError,
    ) as error:
        raise Refusal(400, "malformed", "this is no form: send it as a browser does, in UTF-8") from error
