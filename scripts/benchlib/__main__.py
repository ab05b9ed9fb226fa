"""`scripts/bench`: runs the measurements and prints a table; --write puts it into docs/performance.md."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from benchlib import crash, size, speed
from benchlib.figures import Row, table

PAGE = Path("docs/performance.md")
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

Parts = dict[str, Callable[[Path], list[Row]]]


def parts(quick: bool, idle_s: float, kills: int) -> Parts:
    """Every measurement by name, as large as asked for."""
    return {
        "throughput": lambda d: speed.throughput(d, 300 if quick else 1000, 2 if quick else 4),
        "latency": lambda d: speed.latency(d, 100 if quick else 300, idle_s, 2 if quick else 5),
        "history": lambda d: size.history(d, 10_000 if quick else 100_000, 30 if quick else 200),
        "ready": lambda d: size.ready(d, 1000 if quick else 10_000, 10, 2 if quick else 5),
        "idle": lambda d: size.idle(d, 5 if quick else 30),
        "output": lambda d: speed.output(d, 64 if quick else 512, 2 if quick else 4),
        "crash": lambda d: crash.crashes(d, kills),
    }


def main() -> int:
    names = list(parts(True, 0, 0))
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("part", nargs="*", help=f"which measurements, of {', '.join(names)}; all without")
    parser.add_argument("--quick", action="store_true", help="small numbers: whether it works, not how well")
    parser.add_argument("--idle", type=float, metavar="S", help="seconds of idleness (60; quick 5)")
    parser.add_argument("--kills", type=int, metavar="N", help="times the daemon is killed (100; quick 5)")
    parser.add_argument("--dir", type=Path, default=Path("build"), help="where the data is written (build/)")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE}")
    given = parser.parse_args()
    if unknown := set(given.part) - set(names):
        parser.error(f"no measurement {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if given.write and (given.quick or given.part):
        parser.error("--write takes a whole run: neither --quick nor parts")
    quick = given.quick
    chosen = parts(quick, given.idle or (5 if quick else 60), given.kills or (5 if quick else 100))
    given.dir.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=given.dir)).absolute()
    rows: list[Row] = []
    try:
        for name in given.part or names:
            print(f"{name} …", file=sys.stderr)
            rows += chosen[name](directory)
            for row in rows[-3:]:
                print(f"  {row.what}: {row.figure}", file=sys.stderr)
    except BaseException:
        print(f"what the daemons said is in {directory}", file=sys.stderr)
        raise
    shutil.rmtree(directory)
    report = f"{circumstances(given.dir)}\n\n{table(rows)}"
    print(report)
    if given.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{report}\n{END}{rest.partition(END)[2]}")
    return 0 if all(row.met is not False for row in rows) else 1


def circumstances(directory: Path) -> str:
    """What the figures were measured on."""
    at = os.path.realpath(directory)
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    _, filesystem = max((m for m in mounts if os.path.commonpath([at, m[0]]) == m[0]), key=lambda m: len(m[0]))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end, "
        f"Linux {platform.release()}, {filesystem}, Python {platform.python_version()}."
    )


sys.exit(main())
