"""Layer `parsers`: whatever reads what it did not write is fed bytes until it breaks, led by what they cover.

    python -m faultlib.parsers TARGET DIRECTORY [libFuzzer's flags]

is the program that fuzzes one target; the layer runs it for each. Atheris is no dependency of agentd: the layer puts it
beside itself under build/, once, and skips with a reason where that cannot be done.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from faultlib.parser_table import Parser, parsers
from faultlib.report import Report

ATHERIS = "atheris==3.0.0"
#: Seconds for each target.
QUICK_S, LONG_S = 1, 60
#: What one input may take, in seconds and MiB; all of them are at most so many bytes.
INPUT_S, MEMORY_MIB, INPUT_BYTES = 20, 2048, 65536

_RUNS = re.compile(rb"stat::number_of_executed_units: *(\d+)")
_RAISED = re.compile(rb"Uncaught Python exception: ===\n(.+)")


def run(directory: Path, quick: bool) -> Report:
    """Every target of the table for its time, one after the other."""
    place = Path("build") / f"fuzz-{ATHERIS.replace('==', '-')}-{sys.version_info.major}.{sys.version_info.minor}"
    if problem := _install(place):
        return Report("parsers", skipped=problem)
    seconds = QUICK_S if quick else LONG_S
    wrong, runs = [], 0
    table = parsers()
    for target in table.values():
        done, fault = _fuzzed(target, directory / target.name, place, seconds)
        runs += done
        wrong += [fault] if fault else []
    return Report("parsers", f"{runs:,} inputs for {len(table)} parsers, {seconds} s each", wrong)


def _install(place: Path) -> str | None:
    """Put atheris there, if it is not; why it cannot be."""
    if (place / "atheris").is_dir():
        return None
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--target",
        str(place),
    ]
    done = subprocess.run([*command, ATHERIS], capture_output=True, check=False)
    return None if done.returncode == 0 else f"{ATHERIS} cannot be installed for this Python"


def _fuzzed(target: Parser, directory: Path, place: Path, seconds: int) -> tuple[int, str | None]:
    """How many inputs were tried, and what one of them broke."""
    (corpus := directory / "corpus").mkdir(parents=True)
    for n, example in enumerate(target.examples):
        (corpus / f"example-{n}").write_bytes(example)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(place.absolute()), "scripts", "."])}
    limits = [
        f"-max_total_time={seconds}",
        f"-timeout={INPUT_S}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-max_len={INPUT_BYTES}",
    ]
    command = [sys.executable, "-m", "faultlib.parsers", target.name, str(corpus), *limits, "-print_final_stats=1"]
    done = subprocess.run(
        [*command, f"-artifact_prefix={directory}/"],
        env=environ,
        capture_output=True,
        check=False,
        timeout=seconds + 300,
    )
    said = done.stdout + done.stderr
    found = _RUNS.search(said)
    runs = int(found[1]) if found else 0
    if done.returncode == 0 and runs:
        return runs, None
    (directory / "said").write_bytes(said)
    raised = _RAISED.search(said)
    reason = raised[1].decode(errors="replace").strip() if raised else f"exit code {done.returncode}"
    return runs, f"{target.name}: {reason[:200]}; {directory / 'said'}"


def fuzz() -> None:
    """Fuzz the target that the command line names, until libFuzzer's own limits."""
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore] # beside this only in a layer of ours
    import structlog

    structlog.configure(processors=[_drop])
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["agentd", "webui"]):
        target = parsers()[name]
    atheris.Setup(sys.argv, lambda data: target.run(data))
    atheris.Fuzz()


def _drop(*_: object) -> dict[str, object]:
    import structlog

    raise structlog.DropEvent


if __name__ == "__main__":
    fuzz()
