"""Which peers there are, where each one's module is, and what would have to be installed for it."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
PLACES = [str(Path(each).parent) for each in glob.glob("/usr/lib/postgresql/*/bin/postgres")]


class Entry(NamedTuple):
    """One peer: its class, the share of the tasks that a slow one gets, and the programs and packages it needs."""

    module: str
    name: str
    share: float = 1.0
    commands: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    library: bool = True  #: whether it comes from the package index
    promises: bool = True  #: whether there is anything to hold it to in a crash

    @property
    def missing(self) -> str | None:
        """Why it cannot run here, with what would change that; None when it can."""
        path = os.pathsep.join([*PLACES, os.environ["PATH"]])
        if all(shutil.which(command, path=path) for command in self.commands):
            return None
        return f"not here: apt install {' '.join(self.packages)}"


PEERS = {
    "agentd": Entry("agentd", "Agentd", library=False),
    "agentd, 100 a POST": Entry("agentd", "Batched", library=False, promises=False),  # in a crash the same
    "the floor": Entry("floor", "Floor", library=False, promises=False),
    "task-spooler": Entry("spooler", "TaskSpooler", 1, ("tsp",), ("task-spooler",), False),
    "nq": Entry("nq", "Nq", 1, ("nq",), ("nq",), False),
    "huey (SQLite)": Entry("huey", "Huey"),
    "dramatiq": Entry("dramatiq", "Dramatiq", 1, ("redis-server",), ("redis-server",)),
    "RQ, SimpleWorker": Entry("rq", "RqSimple", 1, ("redis-server",), ("redis-server",)),
    "RQ": Entry("rq", "Rq", 0.4, ("redis-server",), ("redis-server",)),
    "Celery": Entry("celery", "Celery", 1, ("redis-server",), ("redis-server",)),
    "procrastinate": Entry("procrastinate", "Procrastinate", 0.6, ("postgres", "initdb"), ("postgresql",)),
    "DBOS (SQLite)": Entry("dbos", "Dbos", 0.2),
}


def environment(build: Path) -> Path | str:
    """The Python of an environment with every peer from the package index, made when it is not there; else why not."""
    place = build / "peers"
    python, stamp = place / "bin" / "python", place / "installed"
    wanted = REQUIREMENTS.read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print("installing the peers into a venv of their own …", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", str(REQUIREMENTS)]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        return f"not installed: {done.stderr.strip().splitlines()[-1]}"
    stamp.write_text(wanted)
    return python
