"""Sums over many tasks: what became of them, why and how long they took. What agents send is counted as it is.

Days are those of UTC on which a task was submitted: of these, and of no other day, an agent lists all there are.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from agentd.client import UNREADABLE
from webui.words import ACTIVE, TERMINAL, command_of

SLOWEST = 10
#: Different states, kinds and causes that are told apart; further ones are counted together.
MAX_NAMES = 30
OTHER = "other"
#: Of a name, or of what a task does.
MAX_TEXT = 200


class TaskFacts(msgspec.Struct):
    """What is read of a task; any field may be anything, and a spec is looked into only where it is shown."""

    task_id: Any = None
    session_id: Any = None
    name: Any = None
    kind: Any = None
    spec: msgspec.Raw = msgspec.Raw(b"null")
    state: Any = None
    cause: Any = None
    created_at: Any = None
    ended_at: Any = None
    duration_s: Any = None

    @property
    def ended(self) -> bool:
        """Whether it is over; by its end where the state is one that is not known."""
        return self.state in TERMINAL or (self.state not in ACTIVE and self.ended_at is not None)

    @property
    def took_s(self) -> float | None:
        """How long the last attempt ran; None while it may still run, and where that is not known."""
        took = self.duration_s
        if not self.ended or isinstance(took, bool) or not isinstance(took, int | float):
            return None
        return float(took) if 0 <= took < math.inf else None


class TaskPage(msgspec.Struct):
    """A page of GET /tasks."""

    data: list[TaskFacts]
    next: str | None = None


class Spread(msgspec.Struct):
    """How long tasks took, in seconds: half of them at most `p50_s`, 95 of 100 at most `p95_s`."""

    p50_s: float | None
    p95_s: float | None


class Group:
    """Tasks that are counted together."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        self.ended = 0
        self.took_s = array("d")

    def add(self, state: str, ended: bool, took_s: float | None) -> None:
        """Count a task in."""
        _count(self.states, state)
        self.ended += ended
        if took_s is not None:
            self.took_s.append(took_s)

    def figures(self) -> dict[str, Any]:
        """`success_rate` is of those that ended and were not cancelled; None when there are none."""
        judged = self.ended - self.states["cancelled"]
        return {
            "tasks": self.states.total(),
            "counts": {state: count for state, count in self.states.items() if count},
            "success_rate": self.states["completed"] / judged if judged > 0 else None,
            **msgspec.structs.asdict(spread(self.took_s)),
        }


class Sums:
    """Adds up tasks of many agents; `figures` is what came of it."""

    def __init__(self, days: Sequence[str]) -> None:
        self._all = Group()
        self._days = {day: Group() for day in days}
        self._other_days = Group()
        self._kinds: dict[str, Group] = {}
        self._causes: Counter[tuple[str, str]] = Counter()
        self._slowest: list[tuple[float, str, TaskFacts]] = []

    def add(self, agent: str, tasks: Sequence[TaskFacts]) -> None:
        """Count an agent's tasks in."""
        slow: list[tuple[float, str, TaskFacts]] = []
        for task in tasks:
            state, kind, ended, took_s = _text(task.state), _text(task.kind), task.ended, task.took_s
            if kind not in self._kinds and len(self._kinds) >= MAX_NAMES:
                kind = OTHER
            day = self._days.get(str(task.created_at)[:10], self._other_days)
            for group in (self._all, day, self._kinds.setdefault(kind, Group())):
                group.add(state, ended, took_s)
            if ended:
                _count(self._causes, (state, _code(task)), (OTHER, OTHER))
            if took_s is not None:
                slow.append((took_s, agent, task))
        self._slowest = heapq.nlargest(SLOWEST, [*self._slowest, *slow], key=_took)
        for _, _, task in self._slowest:
            task.spec = task.spec.copy()  # of its own, not a view that keeps the whole page alive

    def figures(self) -> dict[str, Any]:
        """Everything that was added, as JSON has it."""
        return {
            "overall": self._all.figures(),
            "by_day": [{"day": day, **group.figures()} for day, group in self._days.items()],
            "other_days": self._other_days.figures()["tasks"],
            "by_cause": [
                {"state": state, "cause": code, "tasks": count} for (state, code), count in self._causes.most_common()
            ],
            "by_kind": [
                {"kind": kind, **group.figures()}
                for kind, group in sorted(self._kinds.items(), key=lambda each: -each[1].states.total())
            ],
            "slowest": [
                {
                    "agent": agent,
                    "session_id": task.session_id,
                    "task_id": task.task_id,
                    "state": task.state,
                    "kind": task.kind,
                    "what": command_of({"name": task.name, "kind": task.kind, "spec": _spec(task)})[:MAX_TEXT],
                    "duration_s": took,
                }
                for took, agent, task in self._slowest
            ],
        }


def spread(values: Iterable[float]) -> Spread:
    """The nearest-rank percentiles: each is one of the values."""
    ordered = sorted(values)
    if not ordered:
        return Spread(None, None)
    return Spread(*(ordered[max(0, math.ceil(part * len(ordered)) - 1)] for part in (0.5, 0.95)))


def states_in_order(found: Iterable[str]) -> list[str]:
    """States as they are drawn: ended well first, then otherwise, then active, then those that nobody knows."""
    known = (*TERMINAL, *ACTIVE)
    return sorted(set(found), key=lambda state: (known.index(state) if state in known else len(known), state))


def _count(counter: Counter[Any], name: Any, other: Any = OTHER) -> None:
    counter[name if name in counter or len(counter) < MAX_NAMES else other] += 1


def _code(task: TaskFacts) -> str:
    code = task.cause.get("code") if isinstance(task.cause, dict) else task.cause
    return "unknown" if code is None else _text(code)


def _text(value: Any) -> str:
    return str(value)[:MAX_TEXT]


def _spec(task: TaskFacts) -> Any:
    try:
        return msgspec.json.decode(task.spec)
    except UNREADABLE:  # what is skipped over is not looked at closely
        return None


def _took(entry: tuple[float, str, TaskFacts]) -> float:
    return entry[0]
