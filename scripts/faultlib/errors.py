"""EIO, ENOSPC, EROFS and EDQUOT at every call by which a real daemon, or a real worker, changes a file.

In the life of `workload` single calls fail, far enough from each other that a repeated request can succeed; over the
lives every call has failed with every error. A write that finds no room is made by half first, as a disk does that
fills up. Then outages: from one call on all fail, until a client was refused a few times and could read meanwhile; then
the disk is well, and without a restart so must be the daemon. Last, starts on a disk that fails from the first call.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

from faultlib.actor import Actor
from faultlib.aftermath import at_rest
from faultlib.injection import Call, Judge, Point, Verdict, unavailable
from faultlib.kills import Crashed, aims_of, caught, ended, noted, together
from faultlib.report import Report
from faultlib.rig import PATIENCE_S, SETTINGS, Rig
from faultlib.workload import live

ERRORS = (errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT)
FULL = (errno.ENOSPC, errno.EDQUOT)
#: Calls between two that fail in one life: more than the longest request makes, or it could never succeed.
APART = 41
#: Every how manieth call an outage begins at.
OUTAGE_STEP = 9
#: An outage ends when so many requests were refused, or after so many seconds.
REFUSALS, OUTAGE_S = 3, 1.5


class Lapses:
    """A disk on which single calls fail, each once; the judge of a life."""

    def __init__(self, number: int, by: str, points: Sequence[Point]) -> None:
        self.number = number
        self.todo = set(points)
        self._by = by
        self._short = ""  #: the file whose write was made by half: the rest of it finds no room

    def judge(self, call: Call, point: Point) -> Verdict:
        if call.name == "write" and call.path == self._short:
            self._short = ""
            return -self.number
        if point not in self.todo or call.by != self._by:
            return None
        self.todo.remove(point)
        if self.number in FULL and call.name == "write" and call.args[2] > 1:
            self._short = call.path
            return call.write_half()
        return -self.number


class Outage:
    """A disk on which from one call on all fail that such a disk would fail, until it is well again."""

    def __init__(self, number: int, first: Point | None) -> None:
        self.number = number
        self.first = first  #: None: from the very first call
        self.since = 0.0 if first is not None else time.monotonic()
        self.over = False

    @property
    def on(self) -> bool:
        """Whether it is now."""
        return bool(self.since) and not self.over

    def judge(self, call: Call, point: Point) -> Verdict:
        if call.by == "task" or self.over:
            return None
        if not self.since and point == self.first:
            self.since = time.monotonic()
        if not self.since:
            return None
        if self.first is not None and time.monotonic() - self.since > OUTAGE_S:
            self.over = True
            return None
        return -self.number if self.number not in FULL or call.makes() else None


def run(directory: Path, quick: bool) -> Report:
    """Every point with every error, or a sample."""
    if (reason := unavailable()) is not None:
        return Report("errors", skipped=reason)
    seen = noted(directory / "noted")
    daemon = [point for point, by in seen if by == "daemon"]
    worker = [point for point, by in seen if by == "worker"]
    lapses = [(number, "daemon", daemon[phase::APART]) for phase in range(APART) for number in ERRORS]
    lapses += [(number, "worker", worker[phase::4]) for phase in range(4) for number in ERRORS]
    outages = [(number, point) for point in daemon[::OUTAGE_STEP] for number in ERRORS]
    starts: Sequence[int] = ERRORS
    if quick:
        lapses = [(errno.EIO, "daemon", daemon[::APART]), (errno.ENOSPC, "daemon", daemon[APART // 2 :: APART])]
        outages = [(errno.EROFS, daemon[len(daemon) // 3]), (errno.EDQUOT, daemon[2 * len(daemon) // 3])]
        starts = (errno.ENOSPC,)
    numbers = count()
    failed: list[int] = []
    crashed = Crashed(directory / "crashed", aims_of(seen))
    trials: list[Callable[[], list[str] | None]] = []
    for number, by, points in lapses:
        trials.append(_lapses(directory / f"life-{next(numbers)}", number, by, points, failed))
    for number, point in outages:
        trials.append(_outage(directory / f"life-{next(numbers)}", number, point))
    trials += [_start(crashed, directory / f"start-{errno.errorcode[number]}", number) for number in starts]
    results = together(trials)
    wrong = [each for result in results for each in result or ()]
    tried = (
        f"{sum(failed):,} calls that failed, in {len(lapses):,} lives; {len(outages):,} outages;"
        f" {len(starts)} starts without a disk"
    )
    return Report("errors", tried, wrong)


def _lapses(
    directory: Path, number: int, by: str, points: Sequence[Point], failed: list[int]
) -> Callable[[], list[str] | None]:
    name = f"{errno.errorcode[number]} of a {by} from {points[0] if points else 'nowhere'} on"

    def trial() -> list[str] | None:
        disk = Lapses(number, by, points)
        actor = _lived(directory, disk.judge)
        failed.append(len(points) - len(disk.todo))
        return ended(actor, directory, name, [])

    return lambda: caught(trial, name)


def _outage(directory: Path, number: int, first: Point) -> Callable[[], list[str] | None]:
    name = f"outage by {errno.errorcode[number]} at {first}"

    def trial() -> list[str] | None:
        disk = Outage(number, first)
        return ended(_lived(directory, disk.judge, disk), directory, name, [])

    return lambda: caught(trial, name)


def _lived(directory: Path, judge: Judge, outage: Outage | None = None) -> Actor:
    """One life on such a disk; where a start does not succeed it is tried again, once it is well."""
    directory.mkdir()
    rig = Rig(directory / "data", **SETTINGS)
    actor = Actor(rig, directory)
    actor.lossy = True
    if outage is not None:
        actor.on_refusal = lambda: _meanwhile(actor, outage)
    try:
        while not rig.start_judged(judge):
            actor.wrong += refused_to_start(rig)
            rig.left_alone()
            if outage is not None:
                outage.over = True
        live(actor)
    finally:
        rig.end()
    rig.left_alone()
    actor.on_refusal = lambda: None
    actor.wrong += at_rest(rig)
    return actor


def _meanwhile(actor: Actor, outage: Outage) -> None:
    """While the disk fails: what can be read is read; then the disk is well again."""
    if not outage.on:
        return
    for path in ("/healthz", "/status", "/tasks", "/sessions", "/queue"):
        if (answer := actor.rig.request("GET", path)).status != 200:
            actor.wrong.append(f"while the disk failed GET {path} was {answer.status} {answer.body[:200]!r}")
    if sum(actor.refused.values()) >= REFUSALS:
        outage.over = True


def refused_to_start(rig: Rig) -> list[str]:
    """A start that does not succeed leaves with code 1 and a sentence."""
    assert rig.process is not None
    last = rig.log_text().rstrip().rsplit("\n", 1)[-1]
    wrong = [] if rig.process.returncode == 1 else [f"a start that failed left with {rig.process.returncode}"]
    if not last.startswith("agentd: "):
        wrong.append(f"a start that failed says {last!r}")
    return wrong


def _start(crashed: Crashed, directory: Path, number: int) -> Callable[[], list[str] | None]:
    """A start on a disk that fails from its first call on, with something to recover; then the disk is well."""
    name = f"start without a disk, {errno.errorcode[number]}"

    def trial() -> list[str] | None:
        disk = Outage(number, None)
        wrong: list[str] = []

        def use(actor: Actor) -> None:
            rig = actor.rig
            shown = rig.get("/tasks?limit=1000")["data"]
            wrong.extend(f"{t['name']} is shown running" for t in shown if t["state"] == "running")
            answer = rig.request("POST", "/sessions", {"session_id": "new"})
            if answer.status != 507:
                wrong.append(f"a session on a full disk was answered {answer.status} {answer.body[:200]!r}")
            disk.over = True
            end = time.monotonic() + PATIENCE_S
            while any(row["reason"] for row in rig.get("/sessions?limit=1000")["data"]):
                if time.monotonic() > end:
                    wrong.append("a session was not taken up though there is room")
                    return
                time.sleep(0.1)

        actor, answered = crashed.started(directory, disk.judge, use)
        if number in FULL and not answered:
            wrong.append(f"it did not start: {actor.rig.log_text()[-500:]}")
        if not answered:
            wrong.extend(refused_to_start(actor.rig))
        actor.wrong += at_rest(actor.rig)
        return ended(actor, directory, name, wrong)

    return lambda: caught(trial, name)
