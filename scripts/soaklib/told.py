"""The driver's ledger: what the daemon acknowledged or showed, and what was done to it, one JSON object a line.

`told` says what a line is about:

    boot, killed, stopped    of the daemon: `boot_id`
    session                  its creation was acknowledged: `session_id`
    deleting, deleted        its deletion was asked for; was acknowledged
    task                     a creation was acknowledged: `task_id`, `session_id`, `seq`, `nonce`, `expect`
    cancelling               somebody asks to cancel `task_id`
    progress                 a report was acknowledged: `items_processed`
    end                      a terminal state was shown: `state`, `code`, `seq`
    events                   streamed without a hole, from `seq` on: the CRC of each
    struck, worker           a process of the task with this `nonce` was signalled; a worker was
    out_of_memory            the system ended processes for lack of memory meanwhile, anybody's
    wrong                    what the driver saw that must not be: `what`
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any


class Told:
    """Appends to the ledger, and counts."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def tell(self, told: str, **facts: Any) -> None:
        """One line."""
        self.counts[told] += 1
        self._file.write(json.dumps({"told": told, **facts}) + "\n")

    def complain(self, what: str) -> None:
        """Something that must not be was seen."""
        self.wrong.append(what)
        self.tell("wrong", what=what)

    def close(self) -> None:
        """No more follows."""
        self._file.close()
