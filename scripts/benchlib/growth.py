"""Curves: what a task, a start, a submit, a page and a transition cost when there is more and more."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import perf_counter

from benchlib.amounts import NOBODY
from benchlib.daemon import Client, Daemon
from benchlib.figures import Row, Sheet, median
from benchlib.fill import fill
from benchlib.growing import Theory, grown
from benchlib.limits import CLimit, missing
from benchlib.processes import cpu_s, rss_mib
from benchlib.transitions import stored_per_second, synced_per_second


def tasks(directory: Path, count: int, steps: int) -> Sheet:
    """So many tasks through one session, in steps: processor time, speed and memory."""
    limit = None if missing("cc") else CLimit(directory)
    costs, speeds, memory = [], [], []
    each = count // steps
    with Daemon(directory / "growth", workers_min=2, workers_max=2) as daemon, daemon.client() as client:
        session = client.session("s", max_parallel=2)
        _through(client, session, min(each, 300))
        memory.append(rss_mib(daemon.pid))
        for step in range(steps):
            used, began = cpu_s(daemon.pid), perf_counter()
            _through(client, session, each)
            took = perf_counter() - began
            costs.append(((step + 0.5) * each, (cpu_s(daemon.pid) - used) / each * 1000))
            speeds.append(each / took / (limit.per_second(500) if limit else 1.0))
            memory.append(rss_mib(daemon.pid))
    half = max(1, steps // 4)
    ratio = median(speeds[half : 2 * half]) / median(speeds[:half])
    more = memory[2 * half] - memory[0]
    rows = [
        Row(f"{2 * half * each:,} tasks through: the second half's speed by the first's, to the C limit each",
            f"{ratio:.2f}", "≥ 0.9", ratio >= 0.9),
        Row("… memory of the daemon more; after all of them", f"{more:.1f} MiB; {memory[-1] - memory[0]:.1f} MiB",
            "≤ 40 MiB", more <= 40),
    ]  # fmt: skip
    flat = Theory(True, "A task costs an append to the journal and a record: neither knows how many were before it.")
    return Sheet(rows) + grown("task", "CPU a task", "tasks done in the session", "ms", costs, flat)


def _through(client: Client, session: str, count: int) -> None:
    for task in [client.submit(session, "true") for _ in range(count)][-3:]:
        client.wait(task)


def sessions(directory: Path, most: int, steps: int, rounds: int) -> Sheet:
    """Starts with more and more sessions, each of one finished task: seconds, memory, and lists of what there is."""
    data_dir = directory / "growth-sessions"
    ready, memory, lists, of_tasks = [], [], [], []
    for step in range(steps + 1):
        if step:
            fill(data_dir, most // steps, 1, first=(step - 1) * (most // steps))
        number = step * (most // steps)
        took, resident, listed, tasks = [], [], [], list[float]()
        for _ in range(rounds):
            daemon = Daemon(data_dir)
            took.append(daemon.start())
            try:
                resident.append(rss_mib(daemon.pid))
                with daemon.client() as client:
                    listed += _times(partial(client.call, "GET", "/sessions?limit=100"), 10)
                    tasks += _times(partial(client.call, "GET", "/tasks?limit=100"), 10)
            finally:
                daemon.stop()
        ready.append((number, median(took)))
        memory.append((number, median(resident)))
        lists.append((number, median(listed) * 1000))
        of_tasks.append((number, median(tasks) * 1000))
    shutil.rmtree(data_dir)
    start = Theory(False, "A start reads the head of each session; nothing else is touched.")
    rss = Theory(False, "A session that nobody looks at is its metadata and its counts.")
    page = Theory(False, "A page of sessions is cut from an order of all of them, in memory.")
    read = Theory(
        False, "A page of all tasks reads the sessions that were active last, and looks at the times of others."
    )
    begin, end = memory[0][1], memory[-1][1]
    each = Row("memory of a session that nobody looks at", f"{(end - begin) * 1024 / most:.2f} KiB", "≤ 2 KiB",
               (end - begin) * 1024 / most <= 2)  # fmt: skip
    return (
        Sheet([each])
        + grown("ready", "ready", "sessions", "s", ready, start)
        + grown("memory", "memory of the daemon", "sessions", "MiB", memory, rss)
        + grown("page", "a page of 100 sessions", "sessions", "ms", lists, page)
        + grown("tasks", "a page of 100 tasks of all sessions", "sessions", "ms", of_tasks, read)
    )


def depth(directory: Path, most: int, steps: int) -> Sheet:
    """Submits while the queue grows, by turns with submits to a daemon whose queue is kept empty."""
    points = []
    with (
        Daemon(directory / "growth-deep", **NOBODY) as deep,
        Daemon(directory / "growth-flat", **NOBODY) as flat,
        deep.client() as behind,
        flat.client() as alone,
    ):
        behind.session("s")
        alone.session("s")
        for step in range(steps):
            ours, theirs = [], []
            for number in range(most // steps):
                ours += _times(partial(behind.submit, "s", "true"), 1)
                if number % 4 == 0:
                    theirs += _times(partial(alone.submit, "s", "true"), 1)
            alone.call("POST", "/sessions/s/cancel")
            points.append(((step + 0.5) * (most // steps), median(ours) / median(theirs)))
    theory = Theory(True, "A submit appends to a journal and to a lane; who is before it does not matter.")
    return grown("submit", "submit, to one with no queue", "tasks queued", "times", points, theory)


def records(directory: Path, most: int, steps: int, pages: int) -> Sheet:
    """The newest page of 100 finished tasks, of sessions with more and more of them, by turns; the first look apart."""
    sizes = [most * step // steps for step in range(1, steps + 1)]
    firsts, took = [], dict[int, list[float]]()
    with ExitStack() as stack:
        looks = {}
        for number in sizes:
            fill(directory / f"growth-records-{number}", 1, number)
            daemon = stack.enter_context(Daemon(directory / f"growth-records-{number}"))
            client = stack.enter_context(daemon.client())
            looks[number] = partial(client.call, "GET", "/sessions/bench-00000/history?limit=100")
            firsts.append((number, _times(looks[number], 1)[0] * 1000))
        for _ in range(pages):
            for number, page in looks.items():
                took.setdefault(number, []).extend(_times(page, 1))
    points = [(number, median(each) * 1000) for number, each in took.items()]
    flat = Theory(True, "Names of records are kept in order in memory: a page opens what it shows.")
    first = Theory(False, "The first look at a session reads the names in its directory once.")
    along = "finished tasks"
    return grown("history", "a page of 100 finished tasks", along, "ms", points, flat) + grown(
        "history-first", "the first page after a start", along, "ms", [(0, 0), *firsts], first
    )


def held(directory: Path, most: int, seconds: float) -> Sheet:
    """Transitions of ten sessions that hold more and more queued tasks, each between two runs of the disk alone."""
    points = []
    number = 10
    while number <= most:
        before = synced_per_second(directory, seconds / 2)
        ours = asyncio.run(stored_per_second(directory / f"held-{number}", 10, number, seconds))
        points.append((number, (before + synced_per_second(directory, seconds / 2)) / 2 / ours))
        number *= 10
    theory = Theory(
        True,
        "A transition touches one task; only `tasks.json`, written at its own pace, holds all that are live.",
    )
    title = "a transition, in syncs of the disk"
    return grown("transition", title, "live tasks in each of 10 sessions", "times", points, theory)


def _times(work: Callable[[], object], times: int) -> list[float]:
    took = []
    for _ in range(times):
        began = perf_counter()
        work()
        took.append(perf_counter() - began)
    return took
