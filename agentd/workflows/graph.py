"""What needs what: an order of the steps, what lies above each, and the circles among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Needs = Mapping[str, Sequence[str]]


def ordered(needs: Needs) -> tuple[list[str], list[list[str]]]:
    """The steps so that each comes after its needs, else as they are given; and circles, each as [a, b, a].

    A step that is in a circle, or needs one that is, is in no order. Of circles that share steps, one is named.
    """
    missing = {step: len(set(before)) for step, before in needs.items()}
    after: dict[str, list[str]] = {step: [] for step in needs}
    for step, before in needs.items():
        for need in set(before):
            after[need].append(step)
    places = {step: n for n, step in enumerate(needs)}
    order = [step for step in needs if not missing[step]]
    for step in order:  # grows while it is read
        for follower in sorted(after[step], key=places.__getitem__):
            missing[follower] -= 1
            if not missing[follower]:
                order.append(follower)
    return order, _circles({step: before for step, before in needs.items() if missing[step]})


def _circles(needs: Needs) -> list[list[str]]:
    """Walks from each step up its needs; a step that comes a second time in one walk closes a circle."""
    circles: list[list[str]] = []
    seen: set[str] = set()
    for start in needs:
        walk: dict[str, None] = {}
        step: str | None = start
        while step is not None and step not in seen:
            seen.add(step)
            walk[step] = None
            step = next((need for need in needs[step] if need in needs), None)
        if step is not None and step in walk:
            names = list(walk)
            circles.append([*names[names.index(step) :], step])
    return circles


def above(needs: Needs, order: Sequence[str]) -> dict[str, int]:
    """All that each step of the order needs, directly or through others, as bits by place in the order."""
    bits = {step: 1 << n for n, step in enumerate(order)}
    found: dict[str, int] = {}
    for step in order:
        found[step] = 0
        for need in needs[step]:
            found[step] |= bits[need] | found[need]
    return found
