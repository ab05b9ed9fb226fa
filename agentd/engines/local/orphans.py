"""Ends processes whose worker or daemon is gone, and only those. Blocking: run it in a thread."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from agentd.engines.local.brand import brand_of, brand_on
from agentd.engines.local.process_tree import (
    Process,
    ancestors,
    descendants,
    kill_all,
    read_process,
    send,
    snapshot,
    tag,
    wait_gone,
)
from agentd.engines.local.worker_process import WORKER_TAG
from agentd.model.task import Task

_TASK_TAG = b"AGENTD_TASK_ID"
_WORKER_TAG = WORKER_TAG.encode()
#: What old workers get to end their trees by themselves, in seconds.
LEAVE_S = 0.5
#: How long everything else is killed before it is reported as not gone.
KILL_S = 5.0

LeftAttempt = tuple[str, int | None, int | None]  #: task_id, pid, pid_started_at


def left_behind(task: Task) -> LeftAttempt:
    """The attempt that was running when its daemon ended."""
    last = task.attempts[-1]
    return task.task_id, last.pid, last.pid_started_at


class Brood:
    """The workers of this process, as the thread that ends their leftovers may know them."""

    def __init__(self) -> None:
        self._pids: set[int] = set()
        self._changes = 0  # odd while a worker is being started, whose pid nobody knows yet

    def starting(self) -> None:
        """A worker is about to be started; `started` must follow."""
        self._changes += 1

    def started(self, pid: int | None) -> None:
        """It was, or (None) it was not."""
        if pid is not None:
            self._pids.add(pid)
        self._changes += 1

    def reaped(self, pid: int) -> None:
        """It has ended and was collected."""
        self._pids.discard(pid)

    def seen(self) -> tuple[dict[int, Process], frozenset[int]]:
        """All processes, and those of them that are workers, at times between which none was started."""
        while True:
            before = self._changes
            processes = snapshot()
            pids = frozenset(self._pids)
            if before % 2 == 0 and before == self._changes:
                return processes, pids


def end_strays(brood: Brood) -> bool:
    """End the children of this process that are no workers, and all below them; True when they are gone.

    They are what a lost worker left: this process is a subreaper, so everything that a worker ever started comes
    to it, whatever became of sessions, groups and environments. A child in this process's own session is not one
    of them, as everything that a worker starts has a session of its own.
    """
    own = os.getsid(0)
    me = os.getpid()

    def look() -> list[Process]:
        processes, workers = brood.seen()
        left = [p for p in processes.values() if p.parent == me and p.pid not in workers and p.session != own]
        return left + descendants(processes, [p.pid for p in left])

    return kill_all(look, KILL_S)[1]


def end_leftovers(agent_id: str, attempts: Sequence[LeftAttempt]) -> int:
    """At the start of a daemon, before anything runs: end what an earlier one left, and return how many that were.

    Old workers of this agent are asked to leave (they end their trees), and killed with all below them if they do
    not. Then everything goes that has the brand of this agent, carries the tag of one of the attempts, or is the
    process, or in the session of the process, that was recorded for one: by pid and start time, never by pid alone.
    This process and those above it are spared, whatever they carry.
    """
    ended = _end_workers(agent_id)
    tasks = {task_id for task_id, _, _ in attempts}
    known = {(pid, started) for _, pid, started in attempts if pid is not None and started is not None}
    if not attempts:
        return ended
    sessions: set[int] = set()
    brand = brand_of(agent_id)

    def look() -> list[Process]:
        processes = snapshot()
        spared = ancestors(processes, os.getpid())
        # A pid stays taken while it names a session, so a member proves the leader's: it started no later.
        sessions.update(pid for pid, started in known if _is_session_of(processes, pid, started))
        found = [
            p
            for p in processes.values()
            if p.pid not in spared
            and (
                (p.pid, p.started_at) in known
                or p.session in sessions
                or (not p.zombie and (brand_on(p.pid) == brand or tag(p.pid, _TASK_TAG) in tasks))
            )
        ]
        return found + [p for p in descendants(processes, [p.pid for p in found]) if p.pid not in spared]

    return ended + kill_all(look, KILL_S)[0]


def _is_session_of(processes: dict[int, Process], pid: int, started: int) -> bool:
    leader = processes.get(pid)
    if leader is not None:
        return leader.started_at == started
    members = [p.started_at for p in processes.values() if p.session == pid]
    return bool(members) and min(members) >= started


def _end_workers(agent_id: str) -> int:
    processes = snapshot()
    workers = [p for p in processes.values() if not p.zombie and tag(p.pid, _WORKER_TAG) == agent_id]
    if not workers:
        return 0
    all_of_them = [*workers, *descendants(processes, [p.pid for p in workers])]
    for process in workers:
        send(process, signal.SIGTERM)
    wait_gone(workers, LEAVE_S)

    def look() -> list[Process]:
        now = [(p, read_process(p.pid)) for p in all_of_them]
        return [q for p, q in now if q is not None and q.started_at == p.started_at]

    kill_all(look, KILL_S)
    return len(all_of_them)
