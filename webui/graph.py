"""A run's steps as a graph: where each stands and what it needs, as the geometry of a drawing; a pure function of rows.

A column for each level: what needs nothing is in the first, all else is right of what it needs. A line that goes past
columns goes straight through them, in the row of what is needed, which they leave free: no node hides it. The
combinations of a matrix are one node. What an agent says may have any shape; a circle of needs is drawn, and ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

#: Pixels: a node, and the way from one to the next.
NODE_WIDTH, NODE_HEIGHT, STEP_X, STEP_Y = 180, 44, 230, 60
MARGIN = 6
#: Characters of a step's name in its node.
MAX_NAME = 20
#: Nodes and lines that are drawn; the table has all.
MAX_NODES = 500
MAX_LINES = 2000

#: Of the states of several combinations the first of these that is there is that of the step.
_FIRST = ("running", "queued", "failed", "interrupted", "cancelled", "waiting", "completed", "skipped")


class Node(NamedTuple):
    """A step."""

    step: str
    name: str  #: cut to fit
    state: str
    words: str  #: how it stands: its state, of a matrix how many have which
    instances: list[dict[str, Any]]
    x: int
    y: int


class Graph(NamedTuple):
    """All that is drawn."""

    nodes: list[Node]
    lines: list[str]  #: SVG paths, from what is needed to what needs it
    width: int
    height: int
    levels: int
    left_out: int  #: lines and nodes that are not drawn


def graph(steps: Sequence[dict[str, Any]], asking: Collection[str] = ()) -> Graph | None:
    """The drawing of these steps, as agents answer them; None when there is nothing to draw.

    Args:
        asking: tasks that await the answer of a person.
    """
    instances: dict[str, list[dict[str, Any]]] = {}
    for each in steps:
        instances.setdefault(str(each.get("step") or each.get("id")), []).append(each)
    left_out = max(0, len(instances) - MAX_NODES)
    drawn = dict(list(instances.items())[:MAX_NODES])
    if not drawn:
        return None
    needs = {step: [need for need in _needs(group[0]) if need in drawn] for step, group in drawn.items()}
    level = _levels(needs)
    row = _rows(needs, level)
    nodes: dict[str, Node] = {}
    for step, group in drawn.items():
        x, y = MARGIN + level[step] * STEP_X, MARGIN + row[step] * STEP_Y
        state, words = _standing(group, tuple(asking))
        name = step if len(step) <= MAX_NAME else step[: MAX_NAME - 1] + "…"
        nodes[step] = Node(step, name, state, words, group, x, y)
    pairs = [(nodes[need], nodes[step]) for step, all_needs in needs.items() for need in all_needs]
    levels = max(level.values()) + 1
    return Graph(
        nodes=list(nodes.values()),
        lines=[_line(*pair) for pair in pairs[:MAX_LINES]],
        width=2 * MARGIN + (levels - 1) * STEP_X + NODE_WIDTH,
        height=2 * MARGIN + max(row.values()) * STEP_Y + NODE_HEIGHT,
        levels=levels,
        left_out=left_out + max(0, len(pairs) - MAX_LINES),
    )


def _needs(step: dict[str, Any]) -> list[str]:
    given = step.get("needs")
    return list(dict.fromkeys(need for need in given if isinstance(need, str))) if isinstance(given, list) else []


def _levels(needs: dict[str, list[str]]) -> dict[str, int]:
    """The level of each step: one more than the highest that it needs; steps of a circle are all in the first."""
    level = {step: 0 for step, each in needs.items() if not each}
    left = {step: set(each) for step, each in needs.items() if each}
    above: dict[str, list[str]] = {}
    for step, each in left.items():
        for need in each:
            above.setdefault(need, []).append(step)
    ready = list(level)
    while ready:
        done = ready.pop()
        for step in above.get(done, ()):
            left[step].discard(done)
            if not left[step]:
                level[step] = 1 + max(level[need] for need in needs[step])
                ready.append(step)
    return {step: level.get(step, 0) for step in needs}


def _rows(needs: dict[str, list[str]], level: dict[str, int]) -> dict[str, int]:
    """The row of each step: the first that is free in its column and in all those that its lines go past."""
    last = dict(level)  #: the column before which a step's longest line ends
    for step, each in needs.items():
        for need in each:
            last[need] = max(last[need], level[step] - 1)
    rows: dict[str, int] = {}
    taken: list[int] = []  #: by row: the first column that is free in it
    for step in sorted(needs, key=level.__getitem__):
        row = next((row for row, free in enumerate(taken) if free <= level[step]), len(taken))
        taken[row : row + 1] = [last[step] + 1]
        rows[step] = row
    return rows


def _standing(instances: Sequence[dict[str, Any]], asking: tuple[str, ...]) -> tuple[str, str]:
    """The state of a step, and in words how its combinations stand, or that one of them awaits an answer."""
    states = Counter(str(each.get("state") or "unknown") for each in instances)
    state = next((each for each in _FIRST if states[each]), next(iter(states)))
    if any(each.get("task_id") in asking for each in instances):
        return state, "awaits an answer"
    if len(instances) == 1:
        return state, state
    return state, ", ".join(f"{count} {name}" for name, count in states.most_common())


def _line(need: Node, node: Node) -> str:
    x1, y1 = need.x + NODE_WIDTH, need.y + NODE_HEIGHT // 2
    x2, y2 = node.x, node.y + NODE_HEIGHT // 2
    gap = STEP_X - NODE_WIDTH
    turn, bend = max(x1, x2 - gap), gap // 2
    return f"M{x1} {y1}H{turn}C{turn + bend} {y1} {x2 - bend} {y2} {x2} {y2}"
