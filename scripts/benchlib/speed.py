"""How fast: throughput, processor time, latency, output."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter, sleep

from benchlib.daemon import Client, Daemon
from benchlib.figures import Row, median, ms, percentile
from benchlib.limits import CLimit, TaskSpooler, missing, to_file_s
from benchlib.processes import cpu_s

#: Tasks in one POST of the batched round.
AT_ONCE = 100


def throughput(directory: Path, count: int, rounds: int) -> list[Row]:
    """`count` times `true`, one durable POST each, two running at a time; by turns with the C limit."""
    ratios: list[float] = []
    rates: list[float] = []
    costs: list[float] = []
    peers: list[float] = []
    batched: list[float] = []
    no_cc, no_tsp = missing("cc"), missing("tsp")
    limit = None if no_cc else CLimit(directory)
    spooler = None if no_tsp else TaskSpooler(directory / "tsp")
    try:
        with Daemon(directory / "throughput", workers_min=2, workers_max=2) as daemon, daemon.client() as client:
            _run(daemon, client, "warm", 50)
            for number in range(rounds):
                before = limit.per_second() if limit else 0.0
                rate, cost = _run(daemon, client, f"round-{number}", count)
                between = limit.per_second() if limit else 0.0
                rates.append(rate)
                costs.append(cost)
                if limit:
                    ratios.append(rate / ((before + between) / 2))
                if limit:
                    rate, _ = _run(daemon, client, f"batches-{number}", count, at_once=AT_ONCE)
                    after = limit.per_second()
                    batched.append(rate / ((between + after) / 2))
                if spooler and limit:
                    rate = spooler.per_second(count)
                    peers.append(rate / ((after + limit.per_second()) / 2))
    finally:
        if spooler:
            spooler.close()
    peer = f"task-spooler {median(peers):.2f}" if peers else f"task-spooler {no_tsp or no_cc}"
    figure = f"{median(ratios):.2f} of the C limit, {median(rates):.0f} tasks/s ({peer})" if ratios else str(no_cc)
    cost = median(costs)
    return [
        Row(f"{count:,} times `true`, one durable POST each, 2 at a time", figure, "≥ 0.20 of the C limit",
            median(ratios) >= 0.20 if ratios else None),
        Row(f"the same, {AT_ONCE} a POST", f"{median(batched):.2f} of the C limit" if batched else str(no_cc),
            "≥ 0.30 of the C limit", median(batched) >= 0.30 if batched else None),
        Row("CPU per task: client, daemon, workers, children", ms(cost), "≤ 2.0 ms", cost <= 0.0020),
    ]  # fmt: skip


def _run(daemon: Daemon, client: Client, session_id: str, count: int, at_once: int = 1) -> tuple[float, float]:
    """Tasks a second, and processor seconds a task."""
    client.session(session_id, max_parallel=2)
    used = cpu_s(daemon.pid) + sum(os.times()[:2])
    began = perf_counter()
    tasks: list[str] = []
    while len(tasks) < count:
        if at_once == 1:
            tasks.append(client.submit(session_id, "true"))
        else:
            tasks += client.submit_batch(session_id, ["true"], min(at_once, count - len(tasks)))
    for task in tasks[-3:]:
        client.wait(task)
    took = perf_counter() - began
    used = cpu_s(daemon.pid) + sum(os.times()[:2]) - used
    done = client.call("GET", f"/sessions/{session_id}/history?limit=1000&state=completed")["data"]
    if len(done) != min(count, 1000):
        raise RuntimeError(f"{len(done)} of {count} tasks completed")
    return count / took, used / count


def latency(directory: Path, count: int, idle_s: float, idles: int) -> list[Row]:
    """Submit and end-to-end on an idle daemon, by turns with task-spooler; then the first one after idleness."""
    no_tsp = missing("tsp")
    spooler = None if no_tsp else TaskSpooler(directory / "tsp-latency")
    acks: list[float] = []
    ours: list[float] = []
    theirs: list[float] = []
    ours_after: list[float] = []
    theirs_after: list[float] = []
    try:
        with Daemon(directory / "latency") as daemon, daemon.client() as client:
            client.session("latency")
            for number in range(count + 20):
                sleep(0.01)
                ack, end = _once(client)
                peer = _peer(spooler)
                if number >= 20:  # the first ones warm up
                    acks.append(ack)
                    ours.append(end)
                    theirs += peer
            for _ in range(idles):
                sleep(idle_s)
                ours_after.append(_once(client)[1])
                theirs_after += _peer(spooler)
    finally:
        if spooler:
            spooler.close()
    ack50, ack99 = percentile(acks, 50), percentile(acks, 99)
    end50, end99 = percentile(ours, 50), percentile(ours, 99)
    after = median(ours_after) / end50
    rows = [
        Row("submit, acknowledged after fdatasync, idle, p50 / p99", f"{ms(ack50)} / {ms(ack99)}", "≤ 3 / 10 ms",
            ack50 <= 0.003 and ack99 <= 0.010),
    ]  # fmt: skip
    if theirs:
        peer50, peer99 = percentile(theirs, 50), percentile(theirs, 99)
        figure = f"{ms(end50)} / {ms(end99)} = {end50 / peer50:.2f} times task-spooler ({ms(peer50)} / {ms(peer99)})"
        rows.append(
            Row("`true` end to end, idle, p50 / p99", figure, "≤ 1.2 times task-spooler", end50 <= 1.2 * peer50)
        )
        beside = f"task-spooler {median(theirs_after) / peer50:.2f} times"
    else:
        rows.append(
            Row(
                "`true` end to end, idle, p50 / p99",
                f"{ms(end50)} / {ms(end99)}; {no_tsp}",
                "≤ 1.2 times task-spooler",
                None,
            )
        )
        beside = f"task-spooler {no_tsp}"
    figure = f"{ms(median(ours_after))} = {after:.2f} times the p50 above ({beside}), {idles} samples"
    rows.append(Row(f"the first `true` after {idle_s:g} s of idleness", figure, "same ± 20 %", after <= 1.2))
    return rows


def _once(client: Client) -> tuple[float, float]:
    began = perf_counter()
    task = client.submit("latency", "true")
    acknowledged = perf_counter() - began
    client.wait(task)
    return acknowledged, perf_counter() - began


def _peer(spooler: TaskSpooler | None) -> list[float]:
    if spooler is None:
        return []
    began = perf_counter()
    spooler.wait(spooler.submit("true"))
    return [perf_counter() - began]


def output(directory: Path, mebibytes: int, rounds: int) -> list[Row]:
    """One task's output against the same command writing to a file."""
    command = f"yes 'a line of output as long as lines of build logs mostly are' | head -c {mebibytes << 20}"
    ratios = []
    rates = []
    with Daemon(directory / "output") as daemon, daemon.client() as client:
        client.session("output")
        client.wait(client.submit("output", "true"))
        for _ in range(rounds):
            before = to_file_s(command, directory)
            began = perf_counter()
            task = client.wait(client.submit("output", "sh", "-c", command), timeout_s=300)
            took = perf_counter() - began
            log = daemon.data_dir / "sessions" / "output" / "output" / f"{task['task_id']}.1.log"
            if log.stat().st_size != mebibytes << 20:
                raise RuntimeError(f"{log} is {log.stat().st_size} bytes")
            log.unlink()
            ratios.append((before + to_file_s(command, directory)) / 2 / took)
            rates.append(mebibytes / took)
    figure = f"{median(ratios):.0%} of `cmd > file`, {median(rates):.0f} MiB/s"
    return [Row(f"one task's output, {mebibytes} MiB", figure, "≥ 50 % of `cmd > file`", median(ratios) >= 0.5)]
