"""A daemon and workers that note when they pass certain places: programs of their own, agentd has no part in it.

    python -m benchlib.marks daemon FILE …   as `agentd …`
    python -I -S WORKER HEARTBEAT_S          as the worker; `worker_program` writes WORKER

Each mark is a name and a time of CLOCK_MONOTONIC, which all processes share.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

marks: list[tuple[str, int]] = []


def around(owner: Any, name: str, before: str = "", after: str = "") -> None:
    """Mark when a function of a class or module is called, and when it has returned."""
    call: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(call)
    def marked(*given: Any, **named: Any) -> Any:
        if before:
            marks.append((before, perf_counter_ns()))
        try:
            return call(*given, **named)
        finally:
            if after:
                marks.append((after, perf_counter_ns()))

    setattr(owner, name, marked)


def daemon(file: Path) -> None:
    """Run `agentd` with marks, written to the file at the end."""
    from agentd.cli.main import main
    from agentd.engines.local import worker_process
    from agentd.http import answers, app
    from agentd.store import appender, commits, disk
    from hosting import connections

    around(connections._Connection, "data_received", before="bytes came")
    around(app.Api, "answer", before="answering")
    around(answers, "json", after="answer made")
    around(commits.GroupCommit, "_write", before="batch handed over")
    around(appender.Appender, "append", before="thread runs")
    around(disk.RealDisk, "fdatasync", before="sync begins", after="sync ends")
    around(commits.GroupCommit, "_written", before="batch told")
    around(worker_process.WorkerProcess, "send", before="launch handed over")
    around(worker_process.WorkerProcess, "read", before="exit read")
    worker_process._PROGRAM = str(worker_program(file.with_suffix(".worker.py"), file.with_suffix(".worker")))
    try:
        main()
    finally:
        file.write_text(json.dumps(marks))


def worker_program(path: Path, file: Path) -> Path:
    """Write the program that runs a worker with marks, which go to the file and its pid after each launch."""
    import agentd.engines.local as local

    engines = str(Path(local.__file__).parent.parent)
    scripts = str(Path(__file__).parent.parent)
    path.write_text(f"import sys\nsys.path[:0] = [{engines!r}, {scripts!r}]\n"
                    f"from benchlib.marks import worker\nworker({str(file)!r})\n")  # fmt: skip
    return path


def worker(file: str) -> None:
    """Run a worker with marks."""
    from local import attempt, process_tree, spawning  # type: ignore[import-not-found] # as the worker knows itself
    from local import worker as program

    around(program.Worker, "_obey", before="launch read")
    around(spawning, "spawn", before="spawning", after="spawned")
    around(attempt.Attempt, "on_child", before="end seen")
    around(program.Worker, "_tell_exit", before="exit handed over")
    told = program.Worker._tell_exit

    def tell_and_write(*given: Any) -> None:
        told(*given)
        with open(f"{file}.{os.getpid()}", "w") as out:
            json.dump(marks, out)

    program.Worker._tell_exit = tell_and_write
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    process_tree.become_subreaper()
    program.Worker(float(sys.argv[1])).run()


if __name__ == "__main__":
    _, what, where, *rest = sys.argv
    sys.argv = ["agentd", *rest]
    if what != "daemon":
        raise SystemExit(f"unknown: {what}")
    daemon(Path(where))
