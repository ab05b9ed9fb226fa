"""`scripts/faults`: runs layers of faults, prints what they tried; --write puts the table into docs/reliability.md."""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
import tempfile
from pathlib import Path
from time import monotonic

from benchlib.figures import circumstances, written
from faultlib.report import Report, table

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
    parser.add_argument("--write", action="store_true", help=f"put the whole table into {PAGE}")
    given = parser.parse_args()
    if unknown := set(given.layer) - set(LAYERS):
        parser.error(f"no layer {', '.join(sorted(unknown))}; there are {', '.join(LAYERS)}")
    if given.write and (given.quick or given.layer):
        parser.error("--write takes every layer, and not --quick")
    given.dir.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="faults-", dir=given.dir)).absolute()
    reports = [_ran(layer, directory, given.quick) for layer in LAYERS if layer in (given.layer or LAYERS)]
    text = f"{circumstances(given.dir)}\n\n{table(reports)}"
    print(text)
    if given.write:
        written(PAGE, "faults", text)
    if any(report.wrong for report in reports):
        print(f"what was left is in {directory}", file=sys.stderr)
        return 1
    shutil.rmtree(directory)
    return 0


def _ran(layer: str, directory: Path, quick: bool) -> Report:
    print(f"{layer} …", file=sys.stderr)
    began = monotonic()
    (own := directory / layer).mkdir()
    report: Report = importlib.import_module(f"faultlib.{layer}").run(own, quick)
    print(f"  {report.skipped or report.tried}, {monotonic() - began:.0f} s", file=sys.stderr)
    for fault in report.wrong[:20]:
        print(f"  {fault}", file=sys.stderr)
    return report


sys.exit(main())
