"""The short form of `scripts/soak`, and the proof at its end: it holds for the truth, and for no lie."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from filelock import FileLock

import filecheck
from filecheck.proof import prove
from soaklib.soak import Soak
from tests.daemon.harness import until

from .lies import LIES, Forger

SECONDS = 25.0
SEED = 20_260_801
#: What there must be more of for the proof to have had something to prove.
LEAST = {"tasks": 50, "records": 30, "strikes": 5, "events": 100}


class Soaked(NamedTuple):
    """What half a minute left, and what was counted meanwhile."""

    place: Path
    counted: dict[str, Any]


def _soaked(place: Path) -> dict[str, Any]:
    """A soak of half a minute; a longer one where that is too little for all lies to be told."""
    facts: dict[str, Any] = {}
    for seconds in (SECONDS, 3 * SECONDS, 9 * SECONDS):
        shutil.rmtree(place, ignore_errors=True)  # what another left that failed, or the shorter one
        place.mkdir()
        soak = Soak(place, seconds, SEED)
        outcome = asyncio.run(soak.run())
        facts = {"wrong": outcome.wrong, "mark": soak.mark, "records": outcome.proof.records}
        facts |= {"tasks": soak.told.counts["task"], "strikes": soak.strikes.counts.total()}
        facts |= {"events": soak.readers.events}
        falsified = place / "data/sessions/pinned-0/history"
        enough = len(list(falsified.glob("*-completed-*.json"))) >= 5
        if facts["wrong"] or (enough and all(facts[name] > least for name, least in LEAST.items())):
            break
    return facts


@pytest.fixture(scope="session")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> Soaked:
    """One soak for all these tests, also where several processes share them."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    place, counted = shared / "soak", shared / "soak.json"
    with FileLock(shared / "soak.lock"):
        if not counted.exists():
            counted.write_text(json.dumps(_soaked(place)))
    return Soaked(place, json.loads(counted.read_text()))


@pytest.fixture
def forger(soaked: Soaked, tmp_path: Path) -> Iterator[Forger]:
    """A copy of it, to be falsified."""
    place = tmp_path / "soak"
    shutil.copytree(soaked.place, place, symlinks=True)
    yield Forger(place)
    shutil.rmtree(place)


def proof_of(place: Path) -> list[str]:
    return prove(place / "data", place / "ledger.jsonl", place / "marks").wrong


def test_everything_is_as_it_was_promised_after_a_soak(soaked: Soaked) -> None:
    counted = soaked.counted
    assert counted["wrong"] == []
    assert {name: counted[name] for name, least in LEAST.items() if counted[name] <= least} == {}


@pytest.mark.parametrize("lie", LIES)
def test_the_proof_finds_a_lie(forger: Forger, lie: str) -> None:
    expected = LIES[lie](forger)
    found = proof_of(forger.place)
    assert any(re.search(expected, each) for each in found), found[:10]


def test_the_proof_holds_for_a_copy_and_for_a_journal_that_was_written_again(forger: Forger) -> None:
    assert proof_of(forger.place) == []
    session = forger.session()
    forger.rewrite(session, forger.records(session))
    assert [each for each in proof_of(forger.place) if "streamed" not in each] == []  # batches, and so CRCs, are others


def test_what_lives_on_is_found_by_its_mark(soaked: Soaked) -> None:
    mark = soaked.counted["mark"]
    stray = subprocess.Popen(["sleep", "600", f"0.{mark}"])
    try:
        found = until(lambda: prove(soaked.place / "data", mark=mark).wrong, 60)
        assert [each for each in found if f"process {stray.pid} lives" in each]
    finally:
        stray.kill()
        stray.wait()


def test_check_files_is_a_command_that_says_what_it_read(forger: Forger) -> None:
    command = [str(Path(__file__).parents[2] / "scripts" / "check_files"), str(forger.data)]
    command += ["--ledger", str(forger.place / "ledger.jsonl"), "--marks", str(forger.place / "marks")]
    environ = {"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environ)

    assert re.search(r"\d+ sessions, .*: 0 wrong", run().stdout)
    forger.record(forger.session()).unlink()
    assert (run().returncode, "has no record" in run().stdout) == (1, True)


def test_the_proof_shares_nothing_with_agentd() -> None:
    for path in Path(next(iter(filecheck.__path__))).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in {*sys.stdlib_module_names, "filecheck"}, f"{path.name} imports {name}"
