"""Data directories of earlier versions load for ever, and those of later ones are refused or passed over."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.harness import RealDaemon, until
from tests.data.freeze import SETTINGS, thawed

FROZEN = sorted(Path(__file__).parents[1].joinpath("data").glob("v*"))
frozen_ones = pytest.mark.parametrize("frozen", FROZEN, ids=lambda path: path.name)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RealDaemon]:
    daemon = RealDaemon(tmp_path / "data", **SETTINGS)
    try:
        yield daemon
    finally:
        daemon.end()


def agentd(*args: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "agentd.cli.main", *args], capture_output=True, timeout=60)


def check(data: Path) -> None:
    done = agentd("check", "--data-dir", str(data), "-o", "json")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["findings"] == []


def lacks(expected: Any, actual: Any, at: str = "") -> list[str]:
    """Where the actual value is not the expected one; what a later version adds to an object is no difference."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        return [each for key in expected for each in lacks(expected[key], actual.get(key, "absent"), f"{at}.{key}")]
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        return [
            each for n, pair in enumerate(zip(expected, actual, strict=True)) for each in lacks(*pair, f"{at}[{n}]")
        ]
    return [] if expected == actual else [f"{at}: {expected!r} is now {actual!r}"]


def files(data: Path) -> dict[str, bytes]:
    return {str(path.relative_to(data)): path.read_bytes() for path in data.rglob("*") if path.is_file()}


@frozen_ones
def test_a_data_directory_of_any_version_loads_as_it_was_and_goes_on(frozen: Path, daemon: RealDaemon) -> None:
    expected = json.loads((frozen / "expected.json").read_bytes())
    changed: dict[str, list[str]] = expected["after_load"]
    thawed(frozen, daemon.data_dir)
    check(daemon.data_dir)
    daemon.start()
    listed = {each["session_id"]: each for each in daemon.get("/sessions?archived=any&limit=1000")["data"]}
    assert sorted(listed) == sorted(expected["sessions"])
    for task_id, (state, code) in changed.items():
        task = daemon.state(task_id, state, 30)
        assert (task["cause"] or {"code": ""})["code"] == code, task
    for session_id, known in expected["sessions"].items():
        path = f"/sessions/{session_id}"
        same = {"title", "labels", "policy", "owner", "archived", "conversations", "created_at"}
        same -= {"title"} if session_id == "edited" else set()
        assert not lacks({key: known["session"][key] for key in same}, listed[session_id])
        for task_id, task in known["tasks"].items():
            if task_id not in changed:
                assert not lacks(task, daemon.task(task_id)), task_id
        history = [each["task_id"] for each in daemon.get(f"{path}/history?limit=1000")["data"]]
        assert history[len(history) - len(known["history"]) :] == known["history"]
        events = [[each["seq"], each["type"]] for each in daemon.get(f"{path}/events?limit=1000")["data"]]
        assert events[: len(known["events"])] == known["events"]
        assert [each["path"] for each in daemon.get(f"{path}/artifacts")["data"]] == known["artifacts"]
        for log, digest in known["output"].items():
            task_id, attempt = log.split(".")
            output = daemon.request("GET", f"/tasks/{task_id}/output?attempt={attempt}").body
            assert hashlib.sha256(output).hexdigest() == digest, log
    assert daemon.request("GET", "/sessions", Authorization=f"Bearer {expected['viewer']}").status == 200
    for session_id in listed:
        daemon.request("PATCH", f"/sessions/{session_id}", {"labels": {"loaded": "yes"}})
        if session_id != "live":  # whose tasks have their turns
            assert daemon.wait(daemon.shell(session_id, "true")["task_id"], 30)["state"] == "completed"
    assert daemon.stop() == 0
    check(daemon.data_dir)


@frozen_ones
def test_what_a_later_minor_version_added_stays_in_the_journal(frozen: Path, daemon: RealDaemon) -> None:
    thawed(frozen, daemon.data_dir)
    later = [line for line in journal(daemon.data_dir, "edited").splitlines() if b"stars" in line or b"mood" in line]
    assert len(later) == 2
    daemon.start()
    assert daemon.get("/sessions/edited")["title"] == "later"
    told = {each["type"]: each for each in daemon.get("/sessions/edited/events?limit=1000")["data"]}
    assert told["session.rated"]["stars"] == 5
    daemon.wait(daemon.shell("edited", "true")["task_id"])
    daemon.stop()
    assert [line for line in journal(daemon.data_dir, "edited").splitlines() if line in later] == later
    check(daemon.data_dir)


def journal(data: Path, session_id: str) -> bytes:
    history = data / "sessions" / session_id / "history"
    return b"".join(path.read_bytes() for path in sorted(history.glob("events-*.jsonl")))


def test_a_newer_format_is_refused_with_what_to_do_and_not_a_byte_is_touched(daemon: RealDaemon) -> None:
    thawed(FROZEN[-1], daemon.data_dir)
    (daemon.data_dir / "format.json").write_text('{"format": 2, "since": "a later version"}\n')
    before = files(daemon.data_dir)
    for command in ("serve", "check"):
        done = agentd(command, "--data-dir", str(daemon.data_dir), *(("--port", "0") if command == "serve" else ()))
        assert done.returncode == 2
        assert b"has format 2, this agentd reads up to 1: use a newer agentd, or another data directory" in done.stderr
    assert files(daemon.data_dir) == before


@pytest.mark.parametrize("file", ["tasks.json", "history/events-000001.jsonl"])
def test_a_session_of_a_newer_format_is_set_aside_and_the_others_serve(file: str, daemon: RealDaemon) -> None:
    thawed(FROZEN[-1], daemon.data_dir)
    session = daemon.data_dir / "sessions/live"
    newer = (session / file).read_bytes()
    assert newer.count(b'{"format":1,') == 1
    if file == "tasks.json":
        body = newer.replace(b'{"format":1,', b'{"format":2,')[: -len(b'"crc":"00000000"}\n')]
        (session / file).write_bytes(body + b'"crc":"%08x"}\n' % zlib.crc32(body))
    else:
        (session / "tasks.json").unlink()
        head, _, rest = newer.partition(b"\n")
        body = head.replace(b'{"format":1,', b'{"format":2,').rpartition(b',"crc":"')[0]
        (session / file).write_bytes(body + b',"crc":"%08x"}\n' % zlib.crc32(body) + rest)
    before = files(session)
    daemon.start()
    shown = daemon.get("/sessions/live")
    assert shown["state"] == "damaged"
    assert "has format 2; this agentd reads up to 1" in shown["reason"]
    assert daemon.wait(daemon.shell("ends", "true")["task_id"])["state"] == "completed"
    daemon.stop()
    assert files(session) == before
    until(daemon.ended)
