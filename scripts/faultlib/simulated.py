"""Power cuts on a simulated disk: every state they may leave in the stories of a store, and every sync left out."""

from __future__ import annotations

from pathlib import Path

from faultlib.report import Report
from tests.store.stories import STORIES, Effort, loss_without, points, states_of

#: The long form: so many seeds, each with more states for every operation and more cuts inside recoveries.
LONG = tuple(Effort(seed=seed, states=400, nested=0.1, nested_states=8) for seed in range(1, 6))


def run(directory: Path, quick: bool) -> Report:
    """Act out every story at each effort, then leave out each sync. `directory` stays empty: the disk is in memory."""
    states = 0
    wrong = []
    for effort in (Effort(),) if quick else LONG:
        for story in STORIES:
            try:
                states += states_of(story, effort)
            except Exception as error:  # the oracle, or the store itself
                wrong.append(f"{story.__name__}, seed {effort.seed}: {error!r}")
    syncs = points()
    needless = [point for point in syncs if loss_without(point) is None]
    wrong += [f"without the sync {point} nothing is lost" for point in needless]
    tried = f"{states:,} states of the disk in {len(STORIES)} stories; {len(syncs) - len(needless)} of {len(syncs)}"
    return Report("simulated", f"{tried} syncs left out were noticed", wrong)
