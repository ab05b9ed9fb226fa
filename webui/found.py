"""The one thing that a page is about: there, refused by its agent, or unknown."""

from __future__ import annotations

from webui.contact import Status
from webui.refusals import Refusal
from webui.rows import Row, one
from webui.upstream import Answer
from webui.visit import Visit


def found(visit: Visit, answer: Answer, *required: str, hint: str) -> Row | None:
    """What the agent answered, as `rows.one`; None when it is unknown.

    Raises:
        Refusal: the agent says that there is none, or refuses; with its own status and words.
    """
    problem = answer.problem
    if problem is not None and answer.contact.status is Status.FRESH:
        detail = str(problem.get("detail") or problem.get("title") or f"the agent answered {answer.http_status}")
        raise Refusal(answer.http_status, str(problem.get("code")), detail, hint=hint)
    return one(visit, answer, *required)
