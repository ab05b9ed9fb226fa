"""The power of real file systems cut: at each operation of every story of a store, and under a running daemon."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, cast

from faultlib import images
from faultlib.images import LOG_WRITTEN, NOTHING_MORE, Image
from faultlib.powered_disk import PoweredDisk
from faultlib.powered_story import PoweredStage, PoweredWatcher, State, Tell, cleared, forked, problem_after
from faultlib.report import Report
from tests.store.oracle import check_recovery, is_journal
from tests.store.simdisk import SimDisk
from tests.store.stories import STORIES, Story, everyday
from tests.store.story import Player

#: The stories of the short form.
QUICK = (everyday,)
#: Of the operations of a recovery, every so manieth is where the power is cut again; from cut to cut, other ones.
NESTED_STRIDE = 4
#: Rounds of a daemon under load whose power is cut.
DAEMON_ROUNDS = 40
#: The syncs whose absence the long form must show. What the others are for shows where a name or a byte may reach the
#: disk without those before it: in the layer `simulated`.
SHOWN = images.SHOWN | {"create.sessions_dir", "import.file", "import.sessions_dir"}

_HOW = {NOTHING_MORE: "nothing more written", LOG_WRITTEN: "its log written"}


def run(directory: Path, quick: bool) -> Report:
    """Cut, recover, check, on every file system that can be made here."""
    if reason := images.missing():
        return Report("power", skipped=reason)
    kinds = images.kinds()
    length = "quick" if quick else "long"
    found = [images.inside("faultlib.power", kind, str(directory), length) for kind in kinds]
    outages = [
        images.inside("faultlib.outage", kind, str(directory), str(1 if quick else DAEMON_ROUNDS))
        for kind in (kinds[:1] if quick else kinds)
    ]
    wrong = [f"{kind}: {each}" for kind, its in zip(kinds, found, strict=True) for each in its["wrong"]]
    wrong += [f"{kind}: {each}" for kind, its in zip(kinds, outages, strict=False) for each in its["wrong"]]
    shown = set().union(*(its["shown"] for its in found))
    wrong += images.unnoticed(SHOWN, shown, quick)
    cuts, nested = (sum(its[of] for its in found) for of in ("cuts", "nested"))
    rounds, facts = (sum(its[of] for its in outages) for of in ("rounds", "facts"))
    tried = (
        f"{cuts:,} cuts on {' and '.join(kinds)}, {nested:,} of them in recoveries; {len(shown)} of "
        f"{found[0]['points']} syncs left out were noticed; {rounds} cuts under a daemon at work, {facts:,} facts "
        "it had acknowledged"
    )
    return Report("power", tried, wrong)


class Cutter(PoweredWatcher):
    """Cuts the power at the n-th operation that it sees, tells what is known, and ends the process."""

    def __init__(self, player: Player, at: int, how: int, tell: Tell) -> None:
        super().__init__(player)
        self._left = at
        self._how = how
        self._tell = tell

    def look(self, disk: SimDisk, operation: str, path: str) -> None:
        if self._left:
            self._left -= 1
            return
        images.cut(cast(PoweredDisk, disk).root, self._how)
        self._tell(self.state)
        os._exit(0)


class Trial:
    """One file system, and the cuts on it."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._root = str(image.root)
        self.cuts = self.nested = 0

    def points_of(self, story: Story) -> frozenset[str]:
        """The syncs that the story reaches."""
        cleared(self._root)

        def told(tell: Tell) -> None:
            stage = PoweredStage(PoweredDisk(self._root), lambda player: Cutter(player, -1, 0, tell))
            story(stage)
            tell(frozenset(stage.disk.points))

        return cast(frozenset[str], forked(told)) - {""}

    def wrong(self, story: Story, how: int, *, nested: bool, skip: frozenset[str] = frozenset()) -> str | None:
        """Cut at every operation of the story, one after the other; the first thing that does not hold afterwards."""
        at, more = 0, True
        while more:
            name = f"{story.__name__}, cut at {at}, {_HOW[how]}"
            state, more = self._cut(story, at, how, skip)
            problem = state if isinstance(state, str) else problem_after(self._root, state)
            if problem is not None:
                return f"{name}: {problem}"
            for second in range(at % NESTED_STRIDE, 1000, NESTED_STRIDE) if nested else ():
                problem, cut = self._recovery_cut(story, at, second, how)
                if problem is not None:
                    return f"{name}, and at {second} of the recovery: {problem}"
                if not cut:
                    break
            at += 1
        return None

    def _cut(self, story: Story, at: int, how: int, skip: frozenset[str]) -> tuple[State | str, bool]:
        """Act the story out up to the cut; whether there was more of it. A sentence: it failed by itself."""
        cleared(self._root)

        def told(tell: Tell) -> None:
            stage = PoweredStage(PoweredDisk(self._root, skip=skip), lambda player: Cutter(player, at, how, tell))
            story(stage)
            images.cut(self._root, how)
            tell([cast(Cutter, stage.watcher).state])

        found = forked(told)
        self._image.remount()
        self.cuts += 1
        return (found[0], False) if isinstance(found, list) else (found, isinstance(found, State))

    def _recovery_cut(self, story: Story, at: int, second: int, how: int) -> tuple[str | None, bool]:
        """Cut at an operation, and again at one of the recovery; what is wrong, and whether it came to the second."""
        state, _ = self._cut(story, at, how, frozenset())
        if isinstance(state, str):
            return state, False

        def interrupted(tell: Tell) -> None:
            disk = PoweredDisk(self._root)
            kept = {path: data for path, data in disk.files().items() if is_journal(path)}
            left = iter(range(second))

            def hook(disk: PoweredDisk, operation: str, path: str) -> None:
                if next(left, None) is None:
                    images.cut(self._root, how)
                    tell(kept)
                    os._exit(0)

            disk.hook = hook
            check_recovery(disk, state.memories, rotten=state.rotten)
            tell(None)

        kept = forked(interrupted)
        if not isinstance(kept, dict):
            return kept, False
        self._image.remount()
        self.cuts += 1
        self.nested += 1
        return problem_after(self._root, state, kept=kept), True


def _tried(trial: Trial, quick: bool) -> dict[str, Any]:
    stories = QUICK if quick else STORIES
    ways = (NOTHING_MORE,) if quick else (NOTHING_MORE, LOG_WRITTEN)
    told = [trial.wrong(story, how, nested=not quick) for story in stories for how in ways]
    cuts = trial.cuts
    reached = {story: trial.points_of(story) for story in stories}
    points = images.QUICK_POINTS if quick else frozenset().union(*reached.values())
    shown = []
    for point in sorted(points):
        losses = (
            trial.wrong(story, how, nested=False, skip=frozenset({point}))
            for how in ways
            for story in stories
            if point in reached[story]
        )
        if (loss := next((each for each in losses if each), None)) is not None:
            shown.append(point)
        print(f"  without {point}: {loss or 'nothing lost'}", file=sys.stderr)
    wrong = [each for each in told if each]
    return {"cuts": cuts, "nested": trial.nested, "wrong": wrong, "shown": shown, "points": len(points)}


if __name__ == "__main__":
    kind, directory, length = sys.argv[1:]
    print(json.dumps(_tried(Trial(Image(kind, images.memory(Path(directory) / kind))), length == "quick")))
