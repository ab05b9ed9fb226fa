"""Where the time of one task goes: from the POST of `true` until it is known to have ended, hot and after idleness."""

from __future__ import annotations

import json
import sys
from bisect import bisect_left
from pathlib import Path
from time import perf_counter_ns, sleep
from typing import NamedTuple

from benchlib.daemon import Client, Daemon
from benchlib.drawing import Stretch, timeline
from benchlib.figures import Sheet, median


class Span(NamedTuple):
    """A part of the way: it ends at a mark, of which this is the next one after the span before."""

    where: str
    what: str
    until: str


#: The way in its order; a task's answer to the POST goes out beside it. Where one process wakes another, the mark is
#: set before the call that wakes it: after it, the one that was woken may be the first to set its own.
WAY = (
    Span("kernel", "the POST is sent, and the loop wakes", "bytes came"),
    Span("daemon", "parsed, and given to its handler", "answering"),
    Span("daemon", "checked; created and started on the head", "batch handed over"),
    Span("kernel", "a thread wakes", "thread runs"),
    Span("committer", "encoded, sealed, written", "sync begins"),
    Span("disk", "fdatasync: it is accepted, and may start", "sync ends"),
    Span("kernel", "the loop wakes", "batch told"),
    Span("daemon", "published, placed", "launch handed over"),
    Span("kernel", "sent to a worker, which wakes", "launch read"),
    Span("worker", "directory, pipes, program found", "spawning"),
    Span("worker", "vfork, until the program is loaded", "spawned"),
    Span("task", "it runs; the worker wakes at its end", "end seen"),
    Span("worker", "collected, tree gone, output closed", "exit handed over"),
    Span("kernel", "told to the daemon, whose loop wakes", "exit read"),
    Span("daemon", "outcome, end on the head", "batch handed over"),
    Span("kernel", "a thread wakes", "thread runs"),
    Span("committer", "encoded, sealed, written", "sync begins"),
    Span("disk", "fdatasync: it has ended for good", "sync ends"),
    Span("kernel", "the loop wakes", "batch told"),
    Span("daemon", "published, the wait answered", "answer made"),
    Span("kernel", "sent, and the client wakes", ""),
)


def spans(directory: Path, count: int, idle_s: float, idles: int) -> Sheet:
    """The way of `count` tasks 10 ms apart, and of `idles` after `idle_s` of nothing: medians of each span."""
    marks = directory / "marks.json"
    daemon = Daemon(directory / "spans", workers_min=1, workers_max=1, workers_max_tasks=1_000_000)
    daemon.command = [sys.executable, "-m", "benchlib.marks", "daemon", str(marks)]
    daemon.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
    with daemon, daemon.client() as client:
        client.session("spans")
        for _ in range(20):
            _once(client)
        hot = [_spaced(client, 0.01) for _ in range(count)]
        cold = [_spaced(client, idle_s) for _ in range(idles)]
    noted = sorted((at, name) for file in directory.glob("marks.*") if file.suffix != ".py"
                   for name, at in json.loads(file.read_text()))  # fmt: skip
    ways = {title: [lengths for each in runs if (lengths := _lengths(noted, *each))] for title, runs in
            (("hot", hot), ("cold", cold))}  # fmt: skip
    if not all(ways.values()):
        raise RuntimeError("no way has all its marks, each in its place")
    middle = {title: [median(each) for each in zip(*lengths, strict=True)] for title, lengths in ways.items()}
    title = f"after {idle_s:g} s"
    rows = [f"| {span.where} | {span.what} | {a:.0f} | {b:.0f} |"
            for span, a, b in zip(WAY, middle["hot"], middle["cold"], strict=True)]  # fmt: skip
    total = [sum(middle[each]) for each in ("hot", "cold")]
    text = "\n".join([f"| where | what | hot, µs | {title}, µs |", "| --- | --- | --- | --- |", *rows,
                      f"| | **together** | **{total[0]:.0f}** | **{total[1]:.0f}** |"])  # fmt: skip
    stretches = [Stretch(span.where, span.what, length) for span, length in zip(WAY, middle["hot"], strict=True)]
    picture = timeline("One `true` from POST to its end, in µs", stretches)
    shown = "![One task's time, span after span](pictures/spans.svg)"
    return Sheet((), f"{shown}\n\n{text}", {"spans.svg": picture})


def _spaced(client: Client, pause_s: float) -> tuple[int, int]:
    sleep(pause_s)
    return _once(client)


def _once(client: Client) -> tuple[int, int]:
    began = perf_counter_ns()
    client.wait(client.submit("spans", "true"))
    return began, perf_counter_ns()


def _lengths(noted: list[tuple[int, str]], began: int, ended: int) -> list[float] | None:
    """Microseconds of each span; None when a mark is missing, as where two batches were one."""
    found = []
    at, place = began, bisect_left(noted, (began, ""))
    for span in WAY:
        while span.until and place < len(noted) and noted[place][1] != span.until:
            place += 1
        reached = noted[place][0] if span.until and place < len(noted) else ended
        if reached > ended or (span.until and place == len(noted)):
            return None
        found.append((reached - at) / 1000)
        at, place = reached, place + 1
    return found
