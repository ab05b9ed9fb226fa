"""What a session has used, and what of its budget is left: a pure function of what its agent says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from webui.words import moment


class Spent(NamedTuple):
    """What was used by all ended attempts and, as far as they told, by those that run."""

    cost_usd: float
    tokens: int
    wall_s: float


class Limit(NamedTuple):
    """One limit of a budget."""

    name: str  #: as the policy has it
    used: float
    most: float

    @property
    def left(self) -> float:
        """How much of it may still be used."""
        return max(0.0, self.most - self.used)


def spent(usage: object, tasks: Sequence[dict[str, Any]], now: datetime) -> Spent:
    """What a session has used up to `now`, by the agent's clock.

    Args:
        usage: of its ended attempts.
        tasks: those of the session that run, others too.
    """
    cost, tokens = _figure(usage, "cost_usd"), _tokens(usage)
    wall = _figure(usage, "wall_s")
    for task in tasks:
        attempts = task.get("attempts")
        latest = attempts[-1] if isinstance(attempts, list) and attempts else None
        if task.get("state") != "running" or not isinstance(latest, dict) or latest.get("ended_at") is not None:
            continue
        cost += _figure(latest.get("usage"), "cost_usd")
        tokens += _tokens(latest.get("usage"))
        started = moment(latest.get("started_at"))
        wall += max(0.0, (now - started).total_seconds()) if started is not None else 0.0
    return Spent(cost, int(tokens), wall)


def limits(budget: object, used: Spent) -> list[Limit]:
    """The limits that a budget sets, each with what is used of it."""
    given = {"max_cost_usd": used.cost_usd, "max_tokens": used.tokens, "max_wall_s": used.wall_s}
    has = budget if isinstance(budget, dict) else {}
    return [Limit(name, value, _figure(budget, name)) for name, value in given.items() if has.get(name) is not None]


def _tokens(usage: object) -> float:
    return _figure(usage, "input_tokens") + _figure(usage, "output_tokens")


def _figure(holder: object, name: str) -> float:
    """A number of an agent's, 0 where there is none."""
    value = holder.get(name) if isinstance(holder, dict) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15 else 0
