"""SIGKILL of a real daemon, and of a real worker, at every call by which they change a file.

First the life of `workload` is lived once, and every call noted. Then it is lived again for each: there the process is
killed just before the call, for a write also half way through it, and everything is held against what the client was
told (`aftermath`). The same for a start that has something to recover.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from faultlib.actor import Actor, Gone
from faultlib.aftermath import broken, orphans
from faultlib.injection import Call, Judge, Point, Verdict, unavailable
from faultlib.report import Report
from faultlib.rig import SETTINGS, Rig
from faultlib.workload import live

#: Lives at a time.
TOGETHER = 2
#: Of all points, those that the short form takes.
QUICK_DAEMON, QUICK_RECOVERY, QUICK_WORKER = 4, 1, 1


class Aim(NamedTuple):
    """Who is killed, and where: before the call, or half way through a write."""

    by: str
    point: Point
    half: bool = False

    def __str__(self) -> str:
        return f"{self.by}, {'half way through' if self.half else 'before'} {self.point}"


class Gun:
    """Kills whoever makes the call that is aimed at; the judge of a life."""

    def __init__(self, aim: Aim | None) -> None:
        self.aim = aim
        self.struck: Call | None = None
        self.log_bytes = 0  #: of the log that a struck worker wrote, then

    def judge(self, call: Call, point: Point) -> Verdict:
        if self.aim is None or point != self.aim.point or self.struck is not None or call.by != self.aim.by:
            return None
        if self.aim.half:
            call.write_half()
        self.struck = call
        os.kill(call.pid, signal.SIGKILL)
        return None


def run(directory: Path, quick: bool) -> Report:
    """Every point, or a sample."""
    if (reason := unavailable()) is not None:
        return Report("kills", skipped=reason)
    aims = aims_of(noted(directory / "noted"))
    crashed = Crashed(directory / "crashed", aims)
    recovery = aims_of(crashed.noted())
    daemon = [aim for aim in aims if aim.by == "daemon"]
    worker = [aim for aim in aims if aim.by == "worker"]
    if quick:
        daemon, worker = sample(daemon, QUICK_DAEMON), sample(worker, QUICK_WORKER)
        recovery = sample(recovery, QUICK_RECOVERY)
    trials: list[Callable[[], list[str] | None]] = []
    trials += [_trial(directory / f"life-{n}", aim) for n, aim in enumerate([*daemon, *worker])]
    trials += [crashed.trial(directory / f"start-{n}", aim) for n, aim in enumerate(recovery)]
    results = together(trials)
    wrong = [each for result in results for each in result or ()]
    missed = sum(result is None for result in results)
    tried = (
        f"{len(daemon):,} kills of the daemon, {len(recovery):,} of a start that recovers, {len(worker):,} of a worker"
        f" ({missed} calls did not come again)"
    )
    return Report("kills", tried, wrong)


def aims_of(seen: Sequence[tuple[Point, str]]) -> list[Aim]:
    """Everywhere that a kill can strike; tasks are not ours."""
    found = []
    for point, by in seen:
        if by != "task":
            found.append(Aim(by, point))
            if point.what.startswith("write "):
                found.append(Aim(by, point, half=True))
    return found


def sample(points: Sequence[Aim], count: int) -> list[Aim]:
    """So many of them, evenly."""
    return [points[(2 * n + 1) * len(points) // (2 * count)] for n in range(min(count, len(points)))]


def together(trials: Sequence[Callable[[], list[str] | None]]) -> list[list[str] | None]:
    """The results of all, some run at a time."""
    with ThreadPoolExecutor(TOGETHER) as pool:
        return list(pool.map(lambda trial: trial(), trials))


def lived(directory: Path, judge: Judge) -> Actor:
    """One life up to wherever the judge lets it come; nothing of it runs any more."""
    directory.mkdir()
    rig = Rig(directory / "data", **SETTINGS)
    actor = Actor(rig, directory)
    try:
        if rig.start_judged(judge):
            live(actor)
    except Gone:
        pass
    finally:
        rig.end()
    rig.left_alone()
    return actor


def noted(directory: Path) -> list[tuple[Point, str]]:
    seen: list[tuple[Point, str]] = []

    def note(call: Call, point: Point) -> Verdict:
        seen.append((point, call.by))
        return None

    actor = lived(directory, note)
    if actor.wrong:
        raise AssertionError(f"undisturbed: {actor.wrong}")
    return seen


def _trial(directory: Path, aim: Aim) -> Callable[[], list[str] | None]:
    def trial() -> list[str] | None:
        gun = Gun(aim)
        actor = lived(directory, gun.judge)
        if gun.struck is None:
            return ended(actor, directory, str(aim), [])
        wrong = _lost_worker(actor, gun.struck) if aim.by == "worker" else []
        return ended(actor, directory, str(aim), wrong)

    return lambda: caught(trial, str(aim))


def _lost_worker(actor: Actor, struck: Call) -> list[str]:
    """The task says that its worker was lost, unless it was to end anyway."""
    task_id = Path(struck.path).name.partition(".")[0]
    causes = [t["cause"]["code"] for t in actor.tasks.values() if t["task_id"] == task_id and t.get("cause")]
    allowed = {"worker_lost", "cancelled_by_user", "shutdown"}
    return [f"its task ended by {cause}" for cause in causes if cause not in allowed]


def ended(actor: Actor, directory: Path, name: str, wrong: list[str]) -> list[str]:
    """What is broken after a life; its directory stays if anything is."""
    try:
        wrong = wrong + broken(actor)
    finally:
        actor.rig.end()
        if left := orphans(actor):
            wrong.append(f"processes {left} were left")
    if not wrong:
        shutil.rmtree(directory)
    return [f"{name} [{directory.name}]: {each}" for each in wrong]


def caught(trial: Callable[[], list[str] | None], name: str) -> list[str] | None:
    """The trial's result; an assertion of the harness, or a daemon that does not start, is one too."""
    try:
        return trial()
    except Exception as error:
        return [f"{name}: {type(error).__name__}: {error}"]


class Crashed:
    """A data directory that a daemon was killed on half way through a record, with tasks running and queued.

    Starts on copies of it are killed at each of their calls.
    """

    def __init__(self, directory: Path, aims: Sequence[Aim]) -> None:
        late = [aim for aim in aims if aim.half and aim.by == "daemon" and "/b/history/events-" in aim.point.what]
        for n, aim in enumerate(reversed(late[:-1])):  # records share a write as time has it: the last may not come
            gun = Gun(aim)
            self._directory = directory.with_name(f"{directory.name}-{n}")
            self._actor = lived(self._directory, gun.judge)
            if gun.struck is not None:
                return
        raise AssertionError(f"no crash to start from: none of {late[:-1]}")

    def noted(self) -> list[tuple[Point, str]]:
        """The calls of a start, and of the stop after it."""
        seen: list[tuple[Point, str]] = []

        def note(call: Call, point: Point) -> Verdict:
            seen.append((point, call.by))
            return None

        self.started(self._actor.rig.data_dir.parent.with_name("restart-noted"), note)
        return [(point, by) for point, by in seen if by == "daemon"]

    def started(
        self, directory: Path, judge: Judge, use: Callable[[Actor], None] = lambda actor: None
    ) -> tuple[Actor, bool]:
        """Start there, use it, stop it; and whether it answered."""
        answered = False
        shutil.copytree(self._directory, directory)
        actor = self._actor.copy()
        actor.rig = Rig(directory / "data", **SETTINGS)
        actor.gate, actor.marks = directory / "gate", directory / "marks"
        agent_file = directory / "data" / "agent.json"  # an agent of its own, which was moved and is no copy
        own = {"data_dir": str(actor.rig.data_dir), "agent_id": secrets.token_hex(8)}
        agent_file.write_text(json.dumps({**json.loads(agent_file.read_text()), **own}))
        with contextlib.suppress(Gone):
            try:
                if answered := actor.rig.start_judged(judge):
                    use(actor)
                    actor.stop()
            finally:
                actor.rig.end()
        actor.rig.left_alone()
        return actor, answered

    def trial(self, directory: Path, aim: Aim) -> Callable[[], list[str] | None]:
        """Kill one start there."""

        def trial() -> list[str] | None:
            gun = Gun(aim)
            actor, _ = self.started(directory, gun.judge)
            return ended(actor, directory, f"start, {aim}", [])

        return lambda: caught(trial, f"start, {aim}")
