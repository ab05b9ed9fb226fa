"""Layer `parsers`: whatever reads what it did not write is fed bytes until it breaks, led by what they cover.

    python -m faultlib.parsers DIRECTORY SECONDS

is the program that fuzzes them, in a process each. Atheris is no dependency of agentd: the layer puts it beside itself
under build/, once, and skips with a reason where that cannot be done.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from faultlib.parser_table import parsers
from faultlib.report import Report

ATHERIS = "atheris==3.0.0"
#: Seconds for each target.
QUICK_S, LONG_S = 1, 20
#: What one input may take, in seconds and MiB; all of them are at most so many bytes.
INPUT_S, MEMORY_MIB, INPUT_BYTES = 20, 2048, 65536

_RUNS = re.compile(rb"stat::number_of_executed_units: *(\d+)")
_ENDED = re.compile(rb"\nended (-?\d+)\n\Z")
_RAISED = re.compile(rb"Uncaught Python exception: ===\n(.+)")


def run(directory: Path, quick: bool) -> Report:
    """Every target of the table for its time, one after the other."""
    place = Path("build") / f"fuzz-{ATHERIS.replace('==', '-')}-{sys.version_info.major}.{sys.version_info.minor}"
    if problem := _install(place):
        return Report("parsers", skipped=problem)
    seconds = QUICK_S if quick else LONG_S
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(place.absolute()), "scripts", "."])}
    command = [sys.executable, "-m", "faultlib.parsers", str(directory), str(seconds)]
    with open(directory / "said", "wb") as said:
        subprocess.run(command, env=environ, check=True, stdout=said, stderr=said)
    wrong, runs = [], 0
    table = parsers()
    for name in table:
        done, fault = _outcome(directory / name)
        runs += done
        wrong += [f"{name}: {fault}"] if fault else []
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


def _outcome(directory: Path) -> tuple[int, str | None]:
    """How many inputs a target was given, and what one of them broke."""
    said = (directory / "said").read_bytes()
    found, raised, ended = _RUNS.search(said), _RAISED.search(said), _ENDED.search(said)
    runs = int(found[1]) if found else 0
    if runs and ended is not None and ended[1] == b"0":
        return runs, None
    reason = raised[1].decode(errors="replace").strip() if raised else "it ended otherwise than it should"
    return runs, f"{reason[:200]}; see {directory / 'said'}"


def fuzz(directory: Path, seconds: int) -> None:
    """Fuzz every target; what libFuzzer says of each, and how its process ended, is in its directory."""
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore] # beside this only in a layer of ours
    import structlog

    structlog.configure(processors=[_drop])
    with atheris.instrument_imports(include=["agentd", "hosting", "webui"]):
        table = parsers()
    for name, target in table.items():
        (corpus := directory / name / "corpus").mkdir(parents=True)
        for n, example in enumerate(target.examples):
            (corpus / f"example-{n}").write_bytes(example)
        said = os.open(directory / name / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        child = os.fork()
        if child == 0:
            os.dup2(said, 1)
            os.dup2(said, 2)
            limits = [f"-max_total_time={seconds}", f"-timeout={INPUT_S}", f"-rss_limit_mb={MEMORY_MIB}"]
            limits += [f"-max_len={INPUT_BYTES}", f"-artifact_prefix={directory / name}/", "-print_final_stats=1"]
            atheris.Setup([sys.argv[0], *limits, str(corpus)], target.run)
            atheris.Fuzz()
            os._exit(1)  # it never comes back
        _, status = os.waitpid(child, 0)
        os.write(said, b"\nended %d\n" % os.waitstatus_to_exitcode(status))
        os.close(said)


def _drop(*_: object) -> dict[str, object]:
    import structlog

    raise structlog.DropEvent


if __name__ == "__main__":
    fuzz(Path(sys.argv[1]), int(sys.argv[2]))
