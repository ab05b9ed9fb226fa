"""What the daemon and the viewer use while time passes, and whether that is flat."""

from __future__ import annotations

import asyncio
import os
import statistics
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from benchlib.figures import Row
from benchlib.processes import descriptors, rss_mib
from soaklib.stage import Stage
from soaklib.writers import EMPTIED


class Sample(NamedTuple):
    """One look: seconds since the start, whose, and how much."""

    at_s: float
    daemon: int  #: its pid
    rss_mib: float
    descriptors: int
    threads: int
    viewer_mib: float
    emptied_mib: float  #: on disk, of the sessions that retention empties
    data_mib: float  #: of everything


class Samples:
    """Looks every `every_s` seconds, until it is cancelled."""

    def __init__(self, stage: Stage, every_s: float) -> None:
        self.found: list[Sample] = []
        self._stage = stage
        self._every_s = every_s
        self._began = monotonic()

    async def take(self) -> None:
        """Again and again."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                self.found.append(await asyncio.to_thread(self._look))
            except (OSError, LookupError, AssertionError):
                continue  # a process that is being replaced

    def _look(self) -> Sample:
        pid, data = self._stage.daemon.pid, self._stage.directory / "data"
        assert self._stage.viewer is not None
        return Sample(
            at_s=monotonic() - self._began,
            daemon=pid,
            rss_mib=rss_mib(pid),
            descriptors=descriptors(pid),
            threads=len(os.listdir(f"/proc/{pid}/task")),
            viewer_mib=rss_mib(self._stage.viewer.pid),
            emptied_mib=sum(_size(data / "sessions" / name) for name in EMPTIED) / 2**20,
            data_mib=_size(data) / 2**20,
        )

    def rows(self, bound: float) -> list[Row]:
        """Each measure over the second half of the longest life of one daemon: the end of its trend over the start."""
        lives: dict[int, list[Sample]] = {}
        for sample in self.found:
            lives.setdefault(sample.daemon, []).append(sample)
        life = max(lives.values(), key=len, default=[])
        half = life[len(life) // 2 :]
        if len(half) < 4:
            return [Row("resources over time", "too short a run", f"trend ≤ {bound:g}", None)]
        rows = []
        for name, unit, values in (
            ("memory of the daemon", "MiB", [each.rss_mib for each in half]),
            ("its descriptors", "", [float(each.descriptors) for each in half]),
            ("its threads", "", [float(each.threads) for each in half]),
            ("sessions under retention on disk", "MiB", [each.emptied_mib for each in half]),
        ):
            ratio = trend([each.at_s for each in half], values)
            minutes = (half[-1].at_s - half[0].at_s) / 60
            figure = f"{ratio:.3f} over {minutes:.0f} min ({min(values):.0f} to {max(values):.0f} {unit})".replace(
                " )", ")"
            )
            rows.append(Row(name, figure, f"trend ≤ {bound:g}", ratio <= bound))
        return rows


def trend(times: list[float], values: list[float]) -> float:
    """The straight line through the values: its end over its start."""
    slope, start = statistics.linear_regression(times, values)
    first, last = start + slope * times[0], start + slope * times[-1]
    return last / first if first > 0 else 1.0


def _size(directory: Path) -> int:
    total = 0
    for place, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(f"{place}/{name}").st_blocks * 512
            except OSError:
                continue  # removed meanwhile
    return total
