"""Requests made out of the OpenAPI document by schemathesis, right and wrong ones, to a real daemon; every check is on.

Left out are streams, which do not end (`sockets` has them), and what would end the daemon or fill the machine with
workers: those two are asked with a token that may not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import time

from agentd.http.tokens import TokenFile
from faultlib.report import Report
from tests.daemon.harness import RealDaemon

#: Beside what schemathesis expects by itself: what depends on the state of things, and not on the form of a request.
CONFIG = """\
hooks = "faultlib.schema_hooks"

[auth.openapi.token]
bearer = "${SCHEMA_TOKEN}"

[checks.positive_data_acceptance]
expected-statuses = ["2xx", "304", "401", "403", "404", "409", "412", "416", "429", "503"]

[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "409", "412", "413", "415", "422", "429"]

# What an archive is, no schema says: bytes that are none are refused in words.
[[operations]]
include-operation-id = "import_session"
[operations.checks.positive_data_acceptance]
expected-statuses = ["201", "401", "403", "409", "413", "422", "429", "503"]
"""
STREAMS = ("all_events", "stream_output", "stream_growth")
QUICK = ("--phases", "coverage,stateful", "-n", "10")
LONG = ("-n", "100")
FORBIDDEN = ("shutdown", "scale_workers")


def run(directory: Path, quick: bool) -> Report:
    """All checks over all operations: each value at its bounds, then at random, then along the document's links."""
    daemon = RealDaemon(
        directory / "data",
        workers={"max": 4, "grace_s": 0.2},
        limits={"auth_failures": 10_000_000},
        agents={"robot": ["cat"]},
    )
    daemon.start()
    try:
        _, viewer = TokenFile(daemon.data_dir).create("viewer", "viewer", time())
        spec = {"command": "exec sleep 86400", "interactive": True, "tty": True}
        running = daemon.shell("running", "", spec=spec)["task_id"]
        left_out = [flag for name in (*STREAMS, *FORBIDDEN) for flag in ("--exclude-operation-id", name)]
        only = [flag for name in FORBIDDEN for flag in ("--include-operation-id", name)]
        whole = _checked(directory, daemon, daemon.token, running, "all", [*left_out, *(QUICK if quick else LONG)])
        refused = _checked(directory, daemon, viewer, running, "forbidden", [*only, "--phases", "coverage"])
        wrong = [*whole.wrong, *refused.wrong]
        if daemon.ended():
            wrong.append("the daemon ended")
        elif code := daemon.stop():
            wrong.append(f"the daemon stopped with {code}")
        wrong += [line[:300] for line in daemon.log_text().splitlines() if "Traceback" in line or "http.failed" in line]
    finally:
        daemon.end()
    return Report("schema", f"{whole.requests + refused.requests:,} requests to {whole.operations} operations", wrong)


class _Outcome:
    """What schemathesis says it did."""

    def __init__(self, report: Path, output: str) -> None:
        found = json.loads(report.read_bytes())
        self.requests: int = found["test_cases"]["generated"]
        self.operations: int = found["operations"]["tested"]
        self.wrong = [f"{failure['title']}: {', '.join(failure['operations'])}" for failure in found["failures"]]
        self.wrong += [f"an error of schemathesis: {error}"[:300] for error in found["errors"]]
        if self.wrong:
            self.wrong.append(f"the requests are in {report.with_suffix('.txt')}")
            report.with_suffix(".txt").write_text(output)


def _checked(directory: Path, daemon: RealDaemon, token: str, running: str, name: str, flags: list[str]) -> _Outcome:
    config, report = directory / "schemathesis.toml", directory / f"{name}.json"
    config.write_text(CONFIG)
    described = directory / "openapi.json"
    described.write_bytes(daemon.request("GET", "/openapi.json").body)
    here = Path(__file__).parents[1]
    paths = f"{here}{os.pathsep}{here.parent}"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", config, "run", described),
            *("--url", daemon.agent["url"], "--report", "json", "--report-json-path", report),
            *("--generation-deterministic", "--continue-on-failure", "--no-shrink", "--no-color"),
            *("--request-timeout", "60", *flags),
        ],
        env=os.environ | {"SCHEMA_TOKEN": token, "SCHEMA_TASK": running, "PYTHONPATH": paths},
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    if not report.exists():
        raise RuntimeError(done.stdout + done.stderr)
    return _Outcome(report, done.stdout)
