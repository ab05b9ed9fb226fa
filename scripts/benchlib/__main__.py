"""`scripts/bench`: runs the measurements and prints a table; --write puts it into docs/performance.md.

It exits with 1 when agentd could not be measured. A bar that is missed is in the table and no error: machines differ.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchlib import (
    amounts,
    crash,
    growth,
    logs,
    notice,
    size,
    spans,
    speed,
    streams,
    transitions,
    viewer_live,
    viewer_log,
    viewer_proxy,
)
from benchlib.figures import Row, Sheet, circumstances, written
from benchlib.peers.rounds import Amount, beside_peers

PAGE = Path("docs/performance.md")
PICTURES = PAGE.with_name("pictures")

Parts = dict[str, Callable[[Path], list[Row] | Sheet]]


def groups(quick: bool, idle_s: float, kills: int) -> dict[str, Parts]:
    """Every measurement by name, as large as asked for, by the table it stands in."""
    daemon: Parts = {
        "throughput": lambda d: speed.throughput(d, 300 if quick else 1000, 2 if quick else 4),
        "latency": lambda d: speed.latency(d, 100 if quick else 300, idle_s, 2 if quick else 5),
        "history": lambda d: size.history(d, 10_000 if quick else 100_000, 30 if quick else 200),
        "ready": lambda d: size.ready(d, 1000 if quick else 10_000, 10, 2 if quick else 5),
        "idle": lambda d: size.idle(d, 5 if quick else 30),
        "output": lambda d: speed.output(d, 64 if quick else 512, 2 if quick else 4),
        "crash": lambda d: crash.crashes(d, kills),
        "notice": lambda d: notice.noticed(d, 3 if quick else 20),
    }
    scale: Parts = {
        "transitions": lambda d: transitions.transitions(
            d, 10 if quick else 100, 0.3 if quick else 2, 1 if quick else 4
        ),
        "streams": lambda d: streams.streams(d, 20 if quick else 1000, 5 if quick else 30),
        "queued": lambda d: amounts.queued(d, 200 if quick else 10_000, 50 if quick else 1000),
        "at-once": lambda d: amounts.at_once(d, 10 if quick else 100, 0.2 if quick else 2, 3),
        "written": lambda d: amounts.written(d, 10 if quick else 300),
        "logs": lambda d: logs.logs(d, 20_000 if quick else 1_900_000, 1 if quick else 10),
    }
    growing: Parts = {
        "tasks": lambda d: growth.tasks(d, 100 if quick else 20_000, 4 if quick else 10),
        "sessions": lambda d: growth.sessions(d, 100 if quick else 20_000, 2 if quick else 4, 1 if quick else 3),
        "depth": lambda d: growth.depth(d, 100 if quick else 10_000, 4 if quick else 10),
        "records": lambda d: growth.records(d, 600 if quick else 30_000, 3, 5 if quick else 50),
        "held": lambda d: growth.held(d, 100 if quick else 10_000, 0.2 if quick else 3),
    }
    queues = Amount(100, 10, 1, 0.5, 6, 8) if quick else Amount(500, 40, 3, 3, 10, 45)
    peers: Parts = {"queues": lambda d: beside_peers(d, queues)}
    way: Parts = {"way": lambda d: spans.spans(d, 30 if quick else 300, 1 if quick else 20, 2 if quick else 9)}
    viewer: Parts = {
        "live": lambda d: viewer_live.live(d, 20 if quick else 100, 2 if quick else 7),
        "proxy": lambda d: viewer_proxy.proxy(d, 200 if quick else 2000),
        "log": lambda d: viewer_log.log_view(d, 2 if quick else 5, 5 if quick else 20),
    }
    return {"daemon": daemon, "spans": way, "scale": scale, "growth": growing, "peers": peers, "viewer": viewer}


def main() -> int:
    tables = groups(True, 0, 0)
    names = [name for parts in tables.values() for name in parts]
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    known = f"{', '.join(names)}, or all of {' or '.join(tables)}"
    parser.add_argument("part", nargs="*", help=f"which measurements, of {known}; everything without")
    parser.add_argument("--quick", action="store_true", help="small numbers: whether it works, not how well")
    parser.add_argument("--idle", type=float, metavar="S", help="seconds of idleness (60; quick 5)")
    parser.add_argument("--kills", type=int, metavar="N", help="times the daemon is killed (100; quick 5)")
    parser.add_argument("--dir", type=Path, default=Path("build"), help="where the data is written (build/)")
    parser.add_argument("--write", action="store_true", help=f"put whole tables into {PAGE}")
    given = parser.parse_args()
    if unknown := set(given.part) - {*names, *tables}:
        parser.error(f"no measurement {', '.join(sorted(unknown))}; there are {known}")
    if given.write and (given.quick or set(given.part) - set(tables)):
        parser.error(f"--write takes whole tables ({', '.join(tables)}), and not --quick")
    quick = given.quick
    found = groups(quick, given.idle or (5 if quick else 60), given.kills or (5 if quick else 100))
    given.dir.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=given.dir)).absolute()
    failed = False
    for group, parts in found.items():
        chosen = [name for name in parts if not given.part or {name, group} & set(given.part)]
        if not chosen:
            continue
        sheet = measured({name: parts[name] for name in chosen}, directory)
        failed = failed or any(row.failed for row in sheet.rows)
        report = sheet.report(circumstances(given.dir))
        print(report)
        for name, picture in sheet.pictures.items():
            ((PICTURES if given.write else given.dir) / name).write_text(picture)
        if given.write:
            written(PAGE, group, report)
    shutil.rmtree(directory)
    return 1 if failed else 0


def measured(parts: Parts, directory: Path) -> Sheet:
    """What some measurements give, together."""
    sheet = Sheet()
    try:
        for name, measure in parts.items():
            print(f"{name} …", file=sys.stderr)
            found = measure(directory)
            found = found if isinstance(found, Sheet) else Sheet(found)
            for row in found.rows:
                print(f"  {row.what}: {row.figure}", file=sys.stderr)
            sheet += found
    except BaseException:
        print(f"what the processes said is in {directory}", file=sys.stderr)
        raise
    return sheet


sys.exit(main())
