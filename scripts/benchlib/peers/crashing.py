"""kill -9 of a peer's daemon and workers under a running task with five queued; then it is started again.

The task's own processes are left alone, as they are when a daemon crashes or is killed for its memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, NamedTuple

from benchlib.peers.peer import LOST, QUEUED, RUNNING, Peer, kill
from benchlib.processes import argv, every_pid, tree, until

SHORT = 5
SETTLED_S = 1.0
DOWN_S = 2.0
POLL_S = 0.1
#: A queue that goes on is watched for so long at least, until all of it ran.
RESUMED_S = 45.0


class Seen(NamedTuple):
    """One look, which began so many seconds after the restart: what is said of the long task, how many of its
    processes live, how many short tasks ran."""

    at_s: float
    said: str
    alive: int
    ran: int

    @property
    def true(self) -> bool:
        """Whether what is said and what is so are the same."""
        return (
            self.said != LOST and (self.said == RUNNING) == (self.alive > 0) and (self.said != QUEUED or not self.alive)
        )


def crash(peer: Peer, task_s: float, watch_s: float) -> dict[str, Any]:
    """What became of the long task, of those behind it, and of its processes, within `watch_s` of the restart."""
    peer.start(1)
    mark = peer.directory / "mark"
    mark.touch()
    long = peer.submit(["sh", "-c", f"echo S >> {mark}; sleep {task_s}; echo E >> {mark}; : {mark}"])
    for number in range(SHORT):
        peer.submit(["sh", "-c", f"echo {number} >> {mark}"])
    until(lambda: "S" in mark.read_text())
    sleep(SETTLED_S)
    before = peer.status(long)
    own = {pid for each in _marked(mark) for pid in tree(each)}
    kill([pid for pid in peer.processes() if pid not in own])
    sleep(DOWN_S)
    peer.start(1)
    looks = _watched(peer, long, mark, watch_s)
    lines = mark.read_text().split()
    return {
        "before": before,
        "said": looks[-1].said,
        "first": looks[0].said,
        "orphan": looks[0].alive > 0,
        "true_s": _true_since(looks),
        "ran": looks[-1].ran,
        "ran_s": next((look.at_s for look in looks if look.ran == SHORT), None),
        "starts": lines.count("S"),
        "twice": max(map(lines.count, map(str, range(SHORT))), default=0) > 1,
    }


def _watched(peer: Peer, long: Any, mark: Path, watch_s: float) -> list[Seen]:
    began = perf_counter()
    looks: list[Seen] = []
    while not looks or looks[-1].at_s < watch_s or (looks[-1].ran < SHORT and looks[-1].at_s < RESUMED_S):
        at_s = perf_counter() - began
        said = peer.status(long)
        ran = len(set(mark.read_text().split()) & set(map(str, range(SHORT))))
        looks.append(Seen(at_s, said, len(_marked(mark)), ran))
        sleep(POLL_S)
    return looks


def _true_since(looks: Sequence[Seen]) -> float | None:
    """Since when what was said was so, to the end; None when it was not so at the end."""
    since = None
    for look in reversed(looks):
        if not look.true:
            break
        since = look.at_s
    return since


def _marked(mark: Path) -> list[int]:
    """The shells of the long task that live."""
    found = ((pid, argv(pid)) for pid in every_pid())
    return [pid for pid, words in found if words[:1] == ["sh"] and words[-1].endswith(f"; : {mark}")]
