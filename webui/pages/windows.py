"""A list that reads better by agent: one page of it from each, or further pages of one."""

from __future__ import annotations

from webui.refusals import Refusal
from webui.upstream import Agent, Answer
from webui.visit import Visit


async def windows(visit: Visit, path: str, default_limit: int) -> list[tuple[Agent, Answer]]:
    """Ask each agent of `?agent=` for its `?limit=` rows from `?cursor=`, which is an agent's own.

    Raises:
        Refusal: a bad limit, or a cursor without the one agent that it is of.
    """
    agents = visit.asked_agents()
    cursor = visit.passed_on("cursor")
    if cursor and len(agents) != 1:
        raise Refusal(400, "malformed", "cursor: is of one agent; name it with agent=", hint="Start again without it.")
    answers = await visit.ask_each(agents, path, [("limit", str(visit.limit(default_limit))), *cursor])
    for _, answer in answers:
        visit.note_not_taken(answer)
    return answers
