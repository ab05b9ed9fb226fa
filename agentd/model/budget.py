"""Whether a session has used up its budget. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from agentd.clock import epoch
from agentd.model.session import Budget, SessionUsage
from agentd.model.task import Task, Usage


class Spent(NamedTuple):
    """What a session has used so far, by its ended attempts and those that run."""

    cost_usd: float
    tokens: int
    wall_s: float


def spent(usage: SessionUsage | None, running: Iterable[Task], now: float) -> Spent:
    """What was used up to `now`, in seconds since the epoch; `running` are its tasks that run."""
    before = usage or SessionUsage()
    cost_usd, tokens, wall_s = before.cost_usd, before.input_tokens + before.output_tokens, before.wall_s
    for task in running:
        attempt = task.attempts[-1]
        told = attempt.usage or Usage()
        cost_usd += told.cost_usd or 0.0
        tokens += (told.input_tokens or 0) + (told.output_tokens or 0)
        wall_s += max(0.0, now - epoch(attempt.started_at))
    return Spent(cost_usd, tokens, wall_s)


def reached(budget: Budget, spent: Spent) -> str | None:
    """The sentence that says which limit is reached; None: none is."""
    if budget.max_cost_usd is not None and spent.cost_usd >= budget.max_cost_usd:
        return f"the session has cost {spent.cost_usd:.4g} USD of max_cost_usd {budget.max_cost_usd:g}"
    if budget.max_tokens is not None and spent.tokens >= budget.max_tokens:
        return f"the session has used {spent.tokens} tokens of max_tokens {budget.max_tokens}"
    if budget.max_wall_s is not None and spent.wall_s >= budget.max_wall_s:
        return f"the session has run for {spent.wall_s:.1f} s of max_wall_s {budget.max_wall_s:g}"
    return None
