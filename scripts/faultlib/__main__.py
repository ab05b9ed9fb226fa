"""`scripts/faults`: runs layers of faults, prints what they tried; --write puts the table into docs/reliability.md."""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
import tempfile
from datetime import date
from pathlib import Path
from time import monotonic

from benchlib.figures import circumstances, standing, written
from faultlib.report import Report, row, rows_in, table

PAGE = Path("docs/reliability.md")

#: Layers in the order in which they run; each is a module with `run(directory, quick) -> Report`.
LAYERS = (
    "simulated",  # every state a power cut may leave, on the simulated disk; every sync left out
    "life",  # any life of the service against a model
    "kills",  # SIGKILL at every write-side system call of a real daemon and a real worker
    "errors",  # EIO, ENOSPC, EROFS, EDQUOT at each of them
    "power",  # the power of real file systems cut
    "blocks",  # their blocks reordered and torn
    "bits",  # bits flipped in every file of a session
    "schema",  # requests made from the OpenAPI document
    "sockets",  # bytes that are hardly HTTP
    "links",  # a viewer over lossy links
    "parsers",  # whatever reads what it did not write, fuzzed
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    parser.add_argument("layer", nargs="*", help=f"which, of {', '.join(LAYERS)}; all of them without")
    parser.add_argument("--quick", action="store_true", help="the short form, as the tests run it")
    parser.add_argument("--dir", type=Path, default=Path("build"), help="where the data is written (build/)")
    parser.add_argument("--write", action="store_true", help=f"put the rows into the table of {PAGE}")
    given = parser.parse_args()
    if unknown := set(given.layer) - set(LAYERS):
        parser.error(f"no layer {', '.join(sorted(unknown))}; there are {', '.join(LAYERS)}")
    if given.write and given.quick:
        parser.error("--write takes the long form")
    given.dir.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="faults-", dir=given.dir)).absolute()
    rows: dict[str, str] = {}
    wrong = False
    for layer in given.layer or LAYERS:
        began = monotonic()
        report = _ran(layer, directory, given.quick)
        wrong |= bool(report.wrong)
        rows[layer] = row(report, f"{date.today()}, {_duration(monotonic() - began)}")
        if given.write:  # each as soon as it is there: all of them take hours
            there = rows_in(standing(PAGE, "faults")) | rows
            written(PAGE, "faults", _table(there, given.dir))
    print(_table(rows, given.dir))
    if wrong:
        print(f"what was left is in {directory}", file=sys.stderr)
        return 1
    shutil.rmtree(directory)
    return 0


def _table(rows: dict[str, str], directory: Path) -> str:
    return f"{circumstances(directory)}\n\n{table(rows[layer] for layer in LAYERS if layer in rows)}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _ran(layer: str, directory: Path, quick: bool) -> Report:
    print(f"{layer} …", file=sys.stderr)
    (own := directory / layer).mkdir()
    report: Report = importlib.import_module(f"faultlib.{layer}").run(own, quick)
    print(f"  {report.skipped or report.tried}", file=sys.stderr)
    for fault in report.wrong[:20]:
        print(f"  {fault}", file=sys.stderr)
    return report


sys.exit(main())
