"""Errors as RFC 9457 problem documents: one table from an error's code to a status."""

from __future__ import annotations

import re
from http import HTTPStatus

import msgspec
from aiohttp import web

from agentd.errors import AgentdError, WorkflowInvalid, by_code
from agentd.model.task import Value

MEDIA_TYPE = "application/problem+json"

#: What each code that can be sent is sent as; a code that is not here is never sent.
STATUS: dict[str, int] = {
    "malformed": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "session_not_found": 404,
    "task_not_found": 404,
    "run_not_found": 404,
    "worker_not_found": 404,
    "artifact_not_found": 404,
    "route_not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "conflict": 409,
    "session_exists": 409,
    "session_active": 409,
    "invalid_transition": 409,
    "idempotency_conflict": 409,
    "session_read_only": 409,
    "precondition_failed": 412,
    "too_large": 413,
    "uri_too_long": 414,
    "unsupported_media_type": 415,
    "range_not_satisfiable": 416,
    "invalid": 422,
    "workflow_invalid": 422,
    "rate_limited": 429,
    "input_full": 429,
    "headers_too_large": 431,
    "internal": 500,
    "storage_failed": 503,
    "unavailable": 503,
    "draining": 503,
    "queue_full": 503,
    "storage_full": 507,
}

#: Seconds after which trying again is sensible, by code; sent as Retry-After.
RETRY_AFTER_S: dict[str, int] = {
    "rate_limited": 60,
    "input_full": 1,
    "storage_failed": 5,
    "unavailable": 2,
    "draining": 5,
    "queue_full": 5,
    "storage_full": 10,
}

#: Codes of what the HTTP library refuses by itself.
CODE_OF_STATUS: dict[int, str] = {
    400: "malformed",
    404: "route_not_found",
    405: "method_not_allowed",
    413: "too_large",
    414: "uri_too_long",
    415: "unsupported_media_type",
    431: "headers_too_large",
    503: "unavailable",
}


class Problem(Value, omit_defaults=True, frozen=True, kw_only=True):
    """What every error answer holds; `errors` is there where single fields are wrong, with `line` and `column` of a
    workflow file.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: tuple[dict[str, str | int], ...] = ()


def title_of(code: str) -> str:
    """A short name of the problem, the same each time: what the error's class says of itself."""
    summary = (by_code()[code].__doc__ or code).split("\n")[0]
    return re.split("[:;]", summary)[0].rstrip(".")


_TITLES = {code: title_of(code) for code in STATUS}
_TITLES["internal"] = "Something went wrong inside the daemon"


def sent_code(error: AgentdError) -> str:
    """The error's own code, or that of the nearest class above it that the table knows."""
    for cls in type(error).__mro__:
        code = getattr(cls, "code", None)
        if code in STATUS:
            return str(code)
    return "internal"


def problem(code: str, detail: str, errors: tuple[dict[str, str | int], ...], request_id: str) -> Problem:
    """The document for a code of the table."""
    return Problem(
        type=f"urn:agentd:error:{code}",
        title=_TITLES[code],
        status=STATUS[code],
        detail=detail,
        code=code,
        request_id=request_id,
        errors=errors,
    )


def answer(code: str, detail: str, request_id: str, errors: tuple[dict[str, str | int], ...] = ()) -> web.Response:
    """The answer for a code of the table."""
    document = problem(code, detail, errors, request_id)
    headers = {
        "Content-Type": MEDIA_TYPE,
        "Cache-Control": "no-store",
        "X-Request-Id": request_id,
        "X-Content-Type-Options": "nosniff",
        "Server": "agentd",
    }
    if code in RETRY_AFTER_S:
        headers["Retry-After"] = str(RETRY_AFTER_S[code])
    if code == "unauthorized":
        headers["WWW-Authenticate"] = 'Bearer realm="agentd"'
    return web.Response(status=document.status, body=msgspec.json.encode(document), headers=headers)


def answer_to(error: AgentdError, request_id: str) -> web.Response:
    """The answer for an error."""
    errors: tuple[dict[str, str | int], ...]
    if isinstance(error, WorkflowInvalid):
        errors = tuple(
            {"field": each.path, "message": each.message, "line": each.line, "column": each.column}
            for each in error.problems
        )
    else:
        errors = tuple({"field": each.field, "message": each.message} for each in error.errors)
    return answer(sent_code(error), error.detail, request_id, errors)


def answer_to_library(error: web.HTTPException, request_id: str) -> web.Response:
    """The answer for what the HTTP library refuses by itself."""
    code = CODE_OF_STATUS.get(error.status, "internal" if error.status >= 500 else "malformed")
    return answer(code, error.text or HTTPStatus(error.status).phrase, request_id)
