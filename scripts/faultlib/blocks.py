"""Blocks of real file systems reordered and torn: images as a disk with a cache may leave them, mounted and recovered.

Every write and flush that a story of a store causes is recorded below the file system. A power cut leaves all writes
before the last flush, and of those since then any: each whole, not at all, or in some of its 512-byte sectors.
"""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys
from bisect import bisect_right
from pathlib import Path
from typing import Any, NamedTuple, cast

from faultlib import images
from faultlib.block_log import BLOCK, SECTOR, Flush, Mark, Recording, RecordingDevice, Write
from faultlib.images import KINDS, Image
from faultlib.powered_disk import PoweredDisk
from faultlib.powered_story import PoweredStage, PoweredWatcher, State, Tell, cleared, forked, problem_after
from faultlib.report import Report
from tests.store.simdisk import SimDisk
from tests.store.stories import STORIES, Story, everyday
from tests.store.story import Player

SEED = 20260102
#: Images looked at: of all stories together, and, for each sync left out, of each story that reaches it.
LONG = {"ext4": (2100, 40), "xfs": (420, 12)}
QUICK_STORIES, QUICK_IMAGES = (everyday,), 15
#: The share of writes that are kept: one of these for each image; and of the kept ones, those that are torn.
SHARES, TORN = (0.0, 0.3, 0.5, 0.7, 1.0), 0.2
#: The share of images that have something to lose.
PENDING = 0.9
_UNWATCHED = 1 << 30


def run(directory: Path, quick: bool) -> Report:
    """Record, make images, mount, recover, check, on every file system that can be made here."""
    if (reason := images.missing() or images.refused("faultlib.block_log")) is not None:
        return Report("blocks", skipped=reason)
    kinds = images.kinds()
    length = "quick" if quick else "long"
    found = [images.inside("faultlib.blocks", kind, str(directory), length) for kind in kinds]
    wrong = [f"{kind}: {each}" for kind, its in zip(kinds, found, strict=True) for each in its["wrong"]]
    shown = set().union(*(its["shown"] for its in found))
    wrong += images.unnoticed(images.SHOWN, shown, quick)
    counts = " and ".join(f"{its['images']:,} images of {kind}" for kind, its in zip(kinds, found, strict=True))
    tried = (
        f"{counts} with {sum(its['torn'] for its in found):,} torn writes (e2fsck was needed for "
        f"{sum(its['mended'] for its in found)}); "
        f"{len(shown)} of {found[0]['points']} syncs left out were noticed"
    )
    return Report("blocks", tried, wrong)


class Recorded(NamedTuple):
    """A story as it went down to the blocks."""

    recording: Recording
    states: list[bytes]  #: what was known at each mark, pickled
    points: frozenset[str]
    failed: str | None  #: the story itself came to nothing


class Recorder(PoweredWatcher):
    """Marks each operation in the log of the blocks, and keeps what was known then."""

    def __init__(self, player: Player, device: RecordingDevice) -> None:
        super().__init__(player)
        self._device = device
        self.known: list[bytes] = []

    def look(self, disk: SimDisk, operation: str, path: str) -> None:
        self._device.mark(len(self.known))
        self.known.append(pickle.dumps(self.state))


class Studio:
    """Where stories are recorded."""

    def __init__(self, kind: str, directory: Path) -> None:
        self._device = RecordingDevice(directory, KINDS[kind][1])
        self._image = Image(kind, directory / "recorded", self._device.source)
        self._root = str(self._image.root)

    def told(self, story: Story, skip: frozenset[str] = frozenset()) -> Recorded:
        """Act the story out, and record it."""
        cleared(self._root)
        self._image.remount()
        self._device.begin()

        def acted(tell: Tell) -> None:
            disk = PoweredDisk(self._root, skip=skip)
            disk.on_unwatched = lambda: self._device.mark(_UNWATCHED)
            stage = PoweredStage(disk, lambda player: Recorder(player, self._device))
            story(stage)
            stage.watcher.look(stage.disk, "end", "")
            tell((cast(Recorder, stage.watcher).known, frozenset(disk.points - {""})))

        found = forked(acted)
        self._image.unmount()
        recording = self._device.recording()
        self._image.mount()
        if isinstance(found, str):
            return Recorded(recording, [], frozenset(), found)
        known, points = found
        return Recorded(recording, known, points, None)

    def close(self) -> None:
        """Let the device go."""
        self._image.unmount()
        self._device.close()


class Lottery:
    """Images that a power cut may leave of a story, drawn at random."""

    def __init__(self, recorded: Recorded, rng: random.Random) -> None:
        self._log = recorded.recording.log
        self._base = recorded.recording.base
        self._states = recorded.states
        self._rng = rng
        self._flushes = [at for at, each in enumerate(self._log) if isinstance(each, Flush)]
        #: Places in the log at which something is known, and what: those behind a flush, those with writes to lose.
        self._moments: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        mark, pending = _UNWATCHED, False
        for at, each in enumerate(self._log, 1):
            if isinstance(each, Mark):
                mark = each.number
            else:
                pending = isinstance(each, Write)
            if mark != _UNWATCHED:
                self._moments[pending].append((at, mark))

    def draw(self, path: Path, size: int) -> tuple[State, int]:
        """Write an image; what was known then, and how many writes in it are torn."""
        rng = self._rng
        settled, unsettled = self._moments
        at, mark = rng.choice(unsettled if unsettled and rng.random() < PENDING else settled)
        before = bisect_right(self._flushes, at - 1)
        flushed = self._flushes[before - 1] if before else -1
        share = rng.choice(SHARES)
        torn = 0
        with path.open("wb") as image:
            image.truncate(size)
            for number, block in self._base.items():
                image.seek(number * BLOCK)
                image.write(block)
            for each in self._log[: flushed + 1]:
                if isinstance(each, Write):
                    image.seek(each.at)
                    image.write(each.data)
            for each in self._log[flushed + 1 : at]:
                if not isinstance(each, Write) or rng.random() >= share:
                    continue
                sectors = list(range(0, len(each.data), SECTOR))
                if rng.random() < TORN:
                    torn += 1
                    sectors = [sector for sector in sectors if rng.random() < 0.5]
                for sector in sectors:
                    image.seek(each.at + sector)
                    image.write(each.data[sector : sector + SECTOR])
        return cast(State, pickle.loads(self._states[mark])), torn


class Viewing:
    """Mounts images and looks at what is recovered from them."""

    def __init__(self, kind: str, directory: Path) -> None:
        self._size = KINDS[kind][1]
        self._image = Image(kind, directory / "drawn", directory / "drawn.image", made=True)
        self.images = self.torn = self.mended = 0

    def wrong(self, recorded: Recorded, count: int, rng: random.Random) -> str | None:
        """Look at so many images of the story; the first thing that does not hold."""
        if recorded.failed is not None:
            return recorded.failed
        lottery = Lottery(recorded, rng)
        for _ in range(count):
            state, torn = lottery.draw(self._image.source, self._size)
            self.images += 1
            self.torn += torn
            try:
                self.mended += self._image.mount_or_mend()
            except subprocess.CalledProcessError as error:
                return f"image {self.images} cannot be mounted: {error.stderr}"
            problem = problem_after(str(self._image.root), state)
            self._image.unmount()
            if problem is not None:
                return f"image {self.images}: {problem}"
        return None


def _tried(kind: str, directory: Path, quick: bool) -> dict[str, Any]:
    studio, viewing, rng = Studio(kind, directory), Viewing(kind, directory), random.Random(SEED)
    stories = QUICK_STORIES if quick else STORIES
    of_all, of_each = (QUICK_IMAGES * len(stories), QUICK_IMAGES) if quick else LONG[kind]
    wrong = []
    reached: dict[Story, frozenset[str]] = {}
    for story in stories:
        recorded = studio.told(story)
        reached[story] = recorded.points
        if problem := viewing.wrong(recorded, of_all // len(stories), rng):
            wrong.append(f"{story.__name__}: {problem}")
    count, torn, mended = viewing.images, viewing.torn, viewing.mended
    points = images.QUICK_POINTS if quick else frozenset().union(*reached.values())
    shown = []
    for point in sorted(points):
        losses = (
            viewing.wrong(studio.told(story, frozenset({point})), of_each, rng)
            for story in stories
            if point in reached[story]
        )
        if (loss := next((each for each in losses if each), None)) is not None:
            shown.append(point)
        print(f"  without {point}: {loss or 'nothing lost'}", file=sys.stderr)
    studio.close()
    return {"images": count, "torn": torn, "mended": mended, "wrong": wrong, "shown": shown, "points": len(points)}


if __name__ == "__main__":
    kind, directory, length = sys.argv[1:]
    print(json.dumps(_tried(kind, images.memory(Path(directory) / f"blocks-{kind}"), length == "quick")))
