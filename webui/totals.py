"""What all agents do at this moment, in numbers, and what runs; of those that are unknown, nothing is guessed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from webui.rows import Row, one
from webui.upstream import Agent
from webui.visit import Visit


class Totals(msgspec.Struct, kw_only=True):
    """Tasks by state over the agents that answered, and how many did not."""

    running: int = 0
    queued: int = 0
    waiting: int = 0
    awaiting: int = 0  #: of those that run: they await the answer of a person
    agents: int = 0
    unknown: int = 0


async def totals(visit: Visit, agents: Iterable[Agent]) -> tuple[Totals, list[Row]]:
    """Ask each agent for its status, and add up; and the tasks that run, with `agent` in each.

    Those that await an answer are first, then those that run the longest.
    """
    found = Totals()
    running: list[Row] = []

    async def add(agent: Agent) -> None:
        answer = await visit.ask(agent, "/status")
        status = one(visit, answer, "agent_id", "state")
        found.agents += 1
        if status is None:
            visit.note_not_taken(answer)
            found.unknown += 1
            return
        current, queue = status["current"], status["queue"]
        if isinstance(current, list):
            found.running += len(current)
            found.awaiting += sum(1 for task in current if isinstance(task, Row) and task["awaiting"])
            running.extend(Row({**task, "agent": agent.name}) for task in current if _is_task(task))
        if isinstance(queue, dict):
            found.waiting += _number(queue.get("waiting"))
            found.queued += _number(queue.get("depth"))

    await asyncio.gather(*map(add, agents))
    return found, sorted(running, key=lambda task: (not task["awaiting"], str(task["started_at"])))


def _is_task(value: object) -> bool:
    return isinstance(value, Row) and isinstance(value["task_id"], str) and isinstance(value["session_id"], str)


def _number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
