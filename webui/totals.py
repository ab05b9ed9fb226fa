"""What all agents do at this moment, in numbers; of those that are unknown, nothing is guessed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from webui.rows import one
from webui.upstream import Agent
from webui.visit import Visit


class Totals(msgspec.Struct, kw_only=True):
    """Tasks by state over the agents that answered, and how many did not."""

    running: int = 0
    queued: int = 0
    waiting: int = 0
    agents: int = 0
    unknown: int = 0


async def totals(visit: Visit, agents: Iterable[Agent]) -> Totals:
    """Ask each agent for its status, and add up."""
    found = Totals()

    async def add(agent: Agent) -> None:
        answer = await visit.ask(agent, "/status")
        status = one(visit, answer, "agent_id", "state")
        found.agents += 1
        if status is None:
            visit.note_not_taken(answer)
            found.unknown += 1
            return
        current, queue = status["current"], status["queue"]
        found.running += len(current) if isinstance(current, list) else 0
        if isinstance(queue, dict):
            found.waiting += _number(queue.get("waiting"))
            found.queued += _number(queue.get("depth"))

    await asyncio.gather(*map(add, agents))
    return found


def _number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
