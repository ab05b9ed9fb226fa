"""Many at once: ten thousand queued, a hundred running, and what a task writes to the disk."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

from benchlib.daemon import TERMINAL, Client, Daemon
from benchlib.figures import Row, median, ms, percentile
from benchlib.processes import cpu_s, rss_mib, shared_mib, tree, until

#: Workers of a daemon that runs nothing of the queue that the tasks are in.
NOBODY = {"workers_queues": "none", "workers_min": 0}


def queued(directory: Path, depth: int, samples: int) -> list[Row]:
    """Submits to a daemon with a long queue and to one with none, by turns."""
    with (
        Daemon(directory / "queued-long", **NOBODY) as long,
        Daemon(directory / "queued-none", **NOBODY) as none,
        long.client() as crowded,
        none.client() as alone,
    ):
        before, processes = rss_mib(long.pid), len(tree(long.pid))
        for session in range(10):
            crowded.session(f"s{session}")
            for _ in range(depth // 10):
                crowded.submit(f"s{session}", "true")
        after, added = rss_mib(long.pid), len(tree(long.pid)) - processes
        alone.session("s0")
        behind, beside = [], []
        for number in range(samples):
            if number % 50 == 0:  # what was taken leaves again, so that the empty one stays empty
                alone.call("POST", "/sessions/s0/cancel")
            behind.append(_took(partial(crowded.submit, "s0", "true")))
            beside.append(_took(partial(alone.submit, "s0", "true")))
        pages = {path: _pages(crowded, path) for path in ("/queue?limit=100", "/tasks?state=queued&limit=100")}
        status = [_took(partial(crowded.call, "GET", "/status")) for _ in range(20)]
    late, soon = percentile(behind, 99), percentile(beside, 99)
    ratio = median(behind) / median(beside)
    listed = "; ".join(f"`{path}` {ms(median(took))}" for path, took in pages.items())
    return [
        Row(f"{depth:,} tasks queued: processes more, memory more", f"{added}; {after - before:.0f} MiB",
            "no process each, ≤ 40 MiB", added == 0 and after - before <= 40),
        Row("submit behind them, p50 / p99, and with none queued",
            f"{ms(median(behind))} / {ms(late)}, {ms(median(beside))} / {ms(soon)}; "
            f"{ratio:.2f} and {late / soon:.2f} times",
            "± 25 %", ratio <= 1.25 and late <= 1.25 * soon),
        Row("pages of 100 meanwhile", f"{listed}; `/status` {ms(median(status))}", "", True),
    ]  # fmt: skip


def _pages(client: Client, path: str) -> list[float]:
    """How long each of ten pages took, one after the other."""
    took, cursor = [], ""
    for _ in range(10):
        began = perf_counter()
        answer = client.call("GET", path + cursor)
        took.append(perf_counter() - began)
        if not answer["next"]:
            break
        cursor = f"&cursor={answer['next']}"
    return took


def _took(work: object) -> float:
    assert callable(work)
    began = perf_counter()
    work()
    return perf_counter() - began


def at_once(directory: Path, workers: int, each_s: float, times: int) -> list[Row]:
    """As many tasks as workers, all at once, of ten sessions; then each again, so many times."""
    sessions = 10
    each = workers // sessions
    with Daemon(directory / "at-once", workers_min=workers, workers_max=workers) as daemon, daemon.client() as client:
        until(lambda: _state(client, "idle") == workers, 120, 0.05)
        idle = shared_mib(tree(daemon.pid))
        for number in range(sessions):
            client.session(f"s{number}", max_parallel=each)
        used, began = cpu_s(daemon.pid), perf_counter()
        tasks = [
            client.submit(f"s{number % sessions}", "sleep", str(each_s)) for number in range(workers * times)
        ]  # fmt: skip
        # A busy machine may end some before it has started all.
        all_busy = until(partial(_all_busy_or_over, client, workers, tasks), 300, 0.01) == "busy"
        full, memory = perf_counter() - began, shared_mib(tree(daemon.pid))
        for task in tasks:
            client.wait(task, 300)
        took, used = perf_counter() - began, cpu_s(daemon.pid) - used
        order = _starts(client, sessions)
    halfway = Counter(order[: len(order) // 2])
    fewest, most = min(halfway[f"s{n}"] for n in range(sessions)), max(halfway.values())
    ideal = each_s * times
    return [
        Row(f"{workers} tasks at once: all running after", f"{full:.2f} s" if all_busy else "never all", "", all_busy),
        Row(f"{workers * times} of {each_s:g} s by {workers} workers", f"{took:.2f} s, {used / took:.0%} of a core",
            f"≤ 2 times {ideal:g} s", took <= 2 * ideal),
        Row("daemon and workers together, idle, then all at work", f"{idle:.0f} MiB, {memory:.0f} MiB with the tasks",
            "≤ 12 MiB a worker", idle - 50 <= 12 * workers),
        Row(f"started of each of {sessions} sessions at half time", f"{fewest} to {most}", "± 10 %",
            most <= 1.1 * len(order) / 2 / sessions + 1),
    ]  # fmt: skip


def _state(client: Client, state: str) -> int:
    return sum(each["state"] == state for each in client.call("GET", "/workers?limit=1000")["data"])


def _all_busy_or_over(client: Client, workers: int, tasks: Sequence[str]) -> str:
    """Which of both is so; empty for neither."""
    if _state(client, "busy") == workers:
        return "busy"
    over = all(client.call("GET", f"/tasks/{task}")["state"] in TERMINAL for task in reversed(tasks))
    return "over" if over else ""


def _starts(client: Client, sessions: int) -> list[str]:
    """The session of each task, in the order in which they were started."""
    starts: list[tuple[str, str]] = []
    for number in range(sessions):
        tasks = client.call("GET", f"/sessions/s{number}/history?limit=1000")["data"]
        starts += [(task["started_at"], task["session_id"]) for task in tasks]
    return [session_id for _, session_id in sorted(starts)]


def written(directory: Path, count: int) -> list[Row]:
    """What the daemon and its workers write for a task, one after the other and two at a time."""
    rows = []
    with Daemon(directory / "written", workers_min=2, workers_max=2) as daemon, daemon.client() as client:
        for name, parallel in (("one at a time, waited for", 1), ("two at a time", 2)):
            session = client.session(f"written-{parallel}", max_parallel=parallel)
            client.wait(client.submit(session, "true"))
            before, synced = _io(daemon), _commits(client)
            if parallel == 1:
                for _ in range(count):
                    client.wait(client.submit(session, "true"))
            else:
                for task in [client.submit(session, "true") for _ in range(count)]:
                    client.wait(task)
            until(partial(_settled, daemon, session, count + 1), 30, 0.05)
            used = {field: (value - before[field]) / count for field, value in _io(daemon).items()}
            commits = (_commits(client) - synced) / count
            figure = (
                f"{used['wchar'] / 1024:.1f} KiB in {used['syscw']:.0f} writes (sockets and pipes are in it), "
                f"{used['write_bytes'] / 1024:.1f} KiB of it to the disk; {commits:.2f} journal syncs"
            )
            rows.append(Row(f"written for a `true`, {name}", figure, "≤ 64 KiB to the disk",
                            used["write_bytes"] <= 64 << 10))  # fmt: skip
    return rows


def _io(daemon: Daemon) -> Counter[str]:
    """/proc/PID/io of the daemon and its workers (proc(5)): what ended children wrote is in their parent's."""
    total: Counter[str] = Counter()
    for pid in tree(daemon.pid):
        try:
            lines = Path(f"/proc/{pid}/io").read_text().splitlines()
        except OSError:
            continue  # it has gone
        total.update({name: int(value) for name, value in (line.split(": ") for line in lines)})
    return total


def _commits(client: Client) -> float:
    text = client.raw("GET", "/metrics")[1].decode()
    found = re.search(r"^agentd_journal_commit_seconds_count (\S+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def _settled(daemon: Daemon, session: str, records: int) -> bool:
    """Whether every finished task has its record."""
    names = (daemon.data_dir / "sessions" / session / "history").iterdir()
    return sum(path.suffix == ".json" for path in names) >= records
