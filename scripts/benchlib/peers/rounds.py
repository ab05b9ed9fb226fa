"""Rounds of every peer one after the other, each between two runs of the C limit; then the same crash of each."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchlib.drawing import Panel, bars, short
from benchlib.figures import Row, Sheet, median, percentile
from benchlib.limits import CLimit, missing
from benchlib.peers.catalogue import PEERS, Entry, environment
from benchlib.peers.peer import kill
from benchlib.processes import tree

PARALLEL = 2
PATIENCE_S = 180.0
PICTURE = "peers.svg"


class Amount(NamedTuple):
    """How much is measured: tasks and latencies a round, rounds, seconds that a crash's task runs and is watched."""

    tasks: int
    latencies: int
    rounds: int
    idle_s: float
    task_s: float
    watch_s: float


class Failed(Exception):
    """A peer did not do what it was told; the text says how."""


class Found:
    """What was measured of one peer."""

    def __init__(self, name: str, entry: Entry) -> None:
        self.name = name
        self.entry = entry
        self.about: dict[str, Any] = {}
        self.why_not = entry.missing
        self.ratios: list[float] = []
        self.rates: list[float] = []
        self.costs: list[float] = []
        self.submits: list[float] = []
        self.ends: list[float] = []
        self.readies: list[float] = []
        self.idle: dict[str, float] = {}
        self.crash: dict[str, Any] = {}


class Host:
    """The process in which a peer lives."""

    def __init__(self, python: Path | str, name: str, directory: Path, log: Path) -> None:
        argv = [str(python), "-m", "benchlib.peers.host", name, str(directory)]
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2].absolute()), "PYTHONWARNINGS": "ignore"}
        with log.open("ab") as said:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, env=environ
            )

    def ask(self, *command: object) -> None:
        """Tell it what to do; one that has ended says so when it is to answer."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """What it says.

        Raises:
            Failed: nothing in time, or that it could not.
        """
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], PATIENCE_S)[0]:
            raise Failed(f"no answer within {PATIENCE_S:.0f} s")
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "it ended"}
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def told(self, *command: object) -> dict[str, Any]:
        """Both."""
        self.ask(*command)
        return self.answer()

    def close(self) -> None:
        """End it with all that it began."""
        assert self._process.stdin is not None and self._process.stdout is not None
        family = tree(self._process.pid)
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            kill([*family, *tree(self._process.pid)])
            self._process.wait()
        self._process.stdout.close()


@contextmanager
def hosted(found: Found, python: Path | str, directory: Path) -> Iterator[Host]:
    """A host of the peer; what fails in it becomes the peer's `why_not`."""
    own = directory / found.entry.name
    own.mkdir(parents=True, exist_ok=True)
    host = Host(python if found.entry.library else sys.executable, found.name, own / "peer", own / "host.log")
    try:
        yield host
    except (Failed, OSError) as error:
        found.why_not = f"failed: {error}"[:120].replace("|", "/")
    finally:
        host.close()
        shutil.rmtree(own / "peer", ignore_errors=True)


def beside_peers(directory: Path, amount: Amount, names: Sequence[str] = tuple(PEERS)) -> Sheet:
    """The table of all peers, and the picture."""
    everyone = [Found(name, PEERS[name]) for name in names]
    python: Path | str = sys.executable
    if any(found.entry.library and not found.why_not for found in everyone):
        python = environment(directory.parent)
    for found in everyone:
        if isinstance(python, str) and found.entry.library:
            found.why_not = found.why_not or python
    limit = None if missing("cc") else CLimit(directory)
    for number in range(amount.rounds):
        for found in everyone:
            if not found.why_not:
                _round(found, python, directory, amount, limit, first=number == 0)
    _crashed([found for found in everyone if not found.why_not], python, directory, amount)
    return Sheet(_rows(everyone, amount), _text(everyone, amount), {PICTURE: _picture(everyone)})


def _round(
    found: Found, python: Path | str, directory: Path, amount: Amount, limit: CLimit | None, *, first: bool
) -> None:
    with hosted(found, python, directory) as host:
        found.about = host.told("start", PARALLEL)
        found.readies.append(found.about["ready_s"])
        if first:
            found.idle = host.told("idle", amount.idle_s)
        took = host.told("latency", max(3, int(amount.latencies * found.entry.share)))
        found.submits += took["submit"]
        found.ends += took["end"]
        before = limit.per_second(500) if limit else 0.0
        speed = host.told("throughput", max(PARALLEL, int(amount.tasks * found.entry.share)))
        found.rates.append(speed["rate"])
        found.costs.append(speed["cpu_s"])
        if limit:
            found.ratios.append(speed["rate"] / ((before + limit.per_second(500)) / 2))
        print(f"  {found.name}: {speed['rate']:.0f}/s", file=sys.stderr)


def _crashed(everyone: Sequence[Found], python: Path | str, directory: Path, amount: Amount) -> None:
    """All at the same time: it is mostly waiting."""
    with ExitStack() as stack:
        hosts = []
        for found in everyone:
            if found.entry.promises:
                host = stack.enter_context(hosted(found, python, directory))
                host.ask("crash", amount.task_s, amount.watch_s)
                hosts.append((found, host))
        for found, host in hosts:
            try:
                found.crash = host.answer()
            except Failed as error:
                found.crash = {"error": str(error)}


# ---------------------------------------------------------------------- what is written of it


def _rows(everyone: Sequence[Found], amount: Amount) -> list[Row]:
    of_us = [found for found in everyone if found.name.startswith("agentd")]
    rows = [
        Row(f"{found.name}, among its peers", found.why_not, "measured", None, True) for found in of_us if found.why_not
    ]
    ours = next((found for found in of_us if found.crash), None)
    if ours is None:
        return rows
    what = "`kill -9` under a task: state right within 1 s, queue resumed, nothing of it left, nothing ran twice"
    if "error" in ours.crash:
        return [*rows, Row(what, ours.crash["error"], "all four", None, True)]
    right = [found.name for found in everyone if found.crash and all(_verdicts(found))]
    others = len([found for found in everyone if found.crash]) - 1
    peers = [name for name in right if name != ours.name]
    figure = f"{'all four' if ours.name in right else ours.crash}; of {others} peers: {', '.join(peers) or 'nobody'}"
    return [*rows, Row(what, figure, "all four", ours.name in right)]


def _verdicts(found: Found) -> tuple[bool, bool, bool, bool]:
    """State right at once, queue kept and resumed, no orphan, nothing ran twice."""
    crash = found.crash
    if "error" in crash:
        return False, False, False, False
    soon = crash["true_s"] is not None and crash["true_s"] <= 1.0
    return soon, crash["ran"] == 5, not crash["orphan"], crash["starts"] <= 1 and not crash["twice"]


def _text(everyone: Sequence[Found], amount: Amount) -> str:
    order = sorted(everyone, key=_rank)
    lines = [
        f"![The table below as bars.](pictures/{PICTURE})",
        "",
        "| | version, settings | of the C limit (spread) | tasks/s | CPU ms a task | submit p50 / p99 ms "
        "| on disk then | end to end p50 / p99 ms | idle MiB (+ server) | idle CPU | ready s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *map(_line, order),
        "",
        f"`kill -9` of the daemon and its workers under a task of {amount.task_s:g} s with five queued behind it; 2 s "
        f"later it is started again and watched for {amount.watch_s:g} s. The task's own processes are not killed.",
        "",
        "| | what it says of the task is so | queue of five | the task's processes | starts of the task |",
        "| --- | --- | --- | --- | --- |",
        *(_crash_line(found, amount) for found in order if found.crash),
    ]
    return "\n".join(lines)


def _rank(found: Found) -> tuple[bool, float]:
    return found.why_not is not None, -(median(found.ratios) if found.ratios else 0.0)


def _name(found: Found) -> str:
    return f"**{found.name}**" if found.name.startswith("agentd") else found.name


def _line(found: Found) -> str:
    if not found.rates:
        return f"| {_name(found)} | {found.why_not} |" + " |" * 9
    ratio = f"{median(found.ratios):.3f} ({_spread(found.ratios)})" if found.ratios else "?"
    server = f" + {found.idle['server_mib']:.0f}" if found.idle["server_mib"] else ""
    cells = [
        _name(found),
        f"{found.about['version']}; {found.about['settings']}",
        ratio,
        f"{median(found.rates):.0f}",
        f"{median(found.costs) * 1000:.2f}",
        _p50_p99(found.submits),
        found.about["durable"],
        _p50_p99(found.ends),
        f"{found.idle['mib']:.0f}{server}",
        f"{found.idle['share']:.1%}",
        f"{median(found.readies):.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def _spread(samples: Sequence[float]) -> str:
    return f"{min(samples):.3f} to {max(samples):.3f}"


def _p50_p99(samples: Sequence[float]) -> str:
    return " / ".join(short(percentile(samples, each) * 1000) for each in (50, 99))


def _crash_line(found: Found, amount: Amount) -> str:
    crash = found.crash
    if "error" in crash:
        return f"| {_name(found)} | {crash['error']} | | | |"
    since = crash["true_s"]
    if since is None:
        shown = f"**no**, not within {amount.watch_s:g} s: {crash['said']}"
    else:
        shown = f"{'at once' if since <= 1 else f'**after {since:.0f} s**'}: {crash['said']}"
    ran = f"{crash['ran']} of 5 ran" if crash["ran"] else "**lost**"
    orphan = "**live on, nobody's**" if crash["orphan"] else "ended"
    starts = "1" if crash["starts"] == 1 else f"**{crash['starts']}**"
    return f"| {_name(found)} | {shown} | {ran} | {orphan} | {starts} |"


def _picture(everyone: Sequence[Found]) -> str:
    shown = sorted((found for found in everyone if found.rates), key=_rank)
    panels = [
        Panel("throughput, of C limit", [median(found.ratios) if found.ratios else None for found in shown]),
        Panel("CPU a task", [median(found.costs) * 1000 for found in shown], " ms"),
        Panel("end to end, p50", [percentile(found.ends, 50) * 1000 for found in shown], " ms"),
        Panel("memory, idle", [found.idle["mib"] + found.idle["server_mib"] or None for found in shown], " MiB"),
    ]
    description = "Throughput, processor time a task, latency and idle memory of agentd and other queues"
    return bars(description, [found.name for found in shown], panels, "agentd")
