"""`scripts/soak`: a daemon kept busy while everything around it is killed; at the end its files are proved.

Prints its seed and what it found; what it left stays in the directory if anything was wrong. `--write` puts the table
into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from pathlib import Path

from benchlib.figures import circumstances, table, written
from soaklib.soak import Soak

PAGE = Path("docs/reliability.md")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="how long everybody is at work (60)")
    parser.add_argument("--seed", type=int, help="that of an earlier run; without it any")
    parser.add_argument("--dir", type=Path, default=Path("build"), help="where the data is written (build/)")
    parser.add_argument("--keep", action="store_true", help="keep what it left also when all is well")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE}")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(2**31)
    given.dir.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="soak-", dir=given.dir)).absolute()
    print(f"seed {seed}, in {directory}", flush=True)
    outcome = asyncio.run(Soak(directory, given.minutes * 60, seed).run())
    text = f"{circumstances(given.dir)} Seed {seed}.\n\n{table(outcome.rows)}"
    print(text)
    for each in outcome.wrong[:100]:
        print(each)
    if given.write:
        written(PAGE, "soak", text)
    if outcome.wrong or any(row.met is False for row in outcome.rows):
        print(f"what was left is in {directory}; scripts/check_files reads it again", file=sys.stderr)
        return 1
    if not given.keep:
        shutil.rmtree(directory)
    return 0


sys.exit(main())
