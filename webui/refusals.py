"""What the viewer itself refuses, as RFC 9457 problems for programs and as pages that say what to do for people."""

from __future__ import annotations

from enum import IntEnum
from http import HTTPStatus

#: An agent may refuse with others.
_KNOWN = frozenset(HTTPStatus)


class Refusal(Exception):
    """A request that is not answered as asked.

    Args:
        status: of HTTP.
        code: stable, for programs; the agents' codes where they have one for it.
        detail: a sentence that names the remedy.
        hint: what to do now, as a sentence; its wording is no promise.
    """

    def __init__(self, status: int, code: str, detail: str, *, hint: str | None = None) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.hint = hint
        super().__init__(detail)

    def problem(self) -> dict[str, object]:
        """The RFC 9457 document."""
        found: dict[str, object] = {
            "type": f"urn:agentd:error:{self.code}",
            "title": HTTPStatus(self.status).phrase if self.status in _KNOWN else "Error",
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        return found | {"hint": self.hint} if self.hint is not None else found


def unknown_agent(name: str) -> Refusal:
    """There is no agent of this name."""
    return Refusal(
        404, "agent_not_found", f"no agent is named {name!r}", hint="The agents page lists those that there are."
    )


def no_cursor() -> Refusal:
    """What is given as a cursor is none, or one of another list."""
    return Refusal(400, "malformed", "cursor: is not a cursor of this list", hint="Start again without it.")


def too_low(role: IntEnum, needed: IntEnum) -> Refusal:
    """A login may not do this."""
    return Refusal(
        403,
        "forbidden",
        f"this login may do what {_a(role)} may; this takes {_a(needed)}",
        hint="Log in with a token that may do this.",
    )


def _a(role: IntEnum) -> str:
    return f"{'a' if role.name == 'VIEWER' else 'an'} {role.name.lower()}"
