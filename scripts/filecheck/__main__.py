"""`scripts/check_files DATA`: prove from the files alone that a stopped daemon kept its promises.

With the ledger and the marks of `scripts/soak` also that nothing acknowledged is lost, nothing ran twice, and every
cause is one that something gave. It imports nothing of agentd, and may be run on a copy.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from filecheck.proof import prove


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/check_files", description=__doc__)
    parser.add_argument("data", type=Path, help="a data directory")
    parser.add_argument("--ledger", type=Path, help="what the driver was told, JSON lines")
    parser.add_argument("--marks", type=Path, help="what the tasks wrote as they ran")
    parser.add_argument("--mark", help="no process may live with this in its command line")
    parser.add_argument("--serving", action="store_true", help="a daemon serves it now: tasks may run, views lag")
    given = parser.parse_args()
    proof = prove(given.data, given.ledger, given.marks, given.mark, stopped=not given.serving)
    for each in proof.wrong[:100]:
        print(each)
    print(f"{proof.counted()}: {len(proof.wrong)} wrong")
    return 1 if proof.wrong else 0


sys.exit(main())
