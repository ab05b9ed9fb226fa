"""A process of a task, or of anybody who writes where tasks do, against the daemon's own reads, writes and removals."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemon.harness import RealDaemon, until
from tests.webui.conftest import MakeDaemon

SECRET = b"what lies outside"
#: Puts a link to argv[2] in the place of argv[1], and what was there back, until its input ends.
SWAPPER = """
import contextlib, os, select, sys
place, outside = sys.argv[1:]
while not select.select([0], [], [], 0)[0]:
    with contextlib.suppress(OSError):
        os.rename(place, place + ".away")
    with contextlib.suppress(OSError):
        os.symlink(outside, place)
    with contextlib.suppress(OSError):
        os.unlink(place)
    with contextlib.suppress(OSError):
        os.rename(place + ".away", place)
    print(flush=True)
"""
ROUNDS = 150


@pytest.fixture
def daemon(make_daemon: MakeDaemon) -> RealDaemon:
    daemon = make_daemon(workers={"min": 1, "grace_s": 0.2}).start()
    daemon.request("POST", "/sessions", {"session_id": "s"})
    return daemon


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that nothing may reach, with names that are asked for."""
    place = tmp_path / "outside"
    for folder in ("", "artifacts", "output", "sub"):
        (place / folder).mkdir(exist_ok=True)
        for name in ("f", "b", "only-here"):
            (place / folder / name).write_bytes(SECRET)
    return place


@contextmanager
def swapped(place: Path, target: Path) -> Iterator[None]:
    """While a process of its own swaps the place for a link to the target; it has begun when this is entered."""
    command = [sys.executable, "-c", SWAPPER, str(place), str(target)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    try:
        for _ in range(3):
            assert process.stdout.readline() == b"\n"
        os.set_blocking(process.stdout.fileno(), False)
        yield
    finally:
        process.stdin.close()
        while process.poll() is None:
            process.stdout.read()
        process.stdout.close()


def files(place: Path) -> dict[str, bytes]:
    return {str(each.relative_to(place)): each.read_bytes() for each in place.rglob("*") if each.is_file()}


@pytest.mark.parametrize("what", ["artifacts", "artifacts/sub", "artifacts/sub/f", ".", "artifacts/f"])
def test_a_link_that_is_swapped_in_leads_no_request_out(daemon: RealDaemon, outside: Path, what: str) -> None:
    before = files(outside)
    session = daemon.data_dir / "sessions" / "s"
    for path in ("f", "sub/f"):
        assert daemon.request("PUT", f"/sessions/s/artifacts/{path}", b"inside").status == 201
    target = outside / "f" if what.endswith("/f") else outside / "sub" if what == "artifacts/sub" else outside
    seen: set[int] = set()
    with swapped(session / what if what != "." else session, target):
        for n in range(ROUNDS):
            for path in ("f", "sub/f", "sub/only-here", "only-here"):
                answer = daemon.request("GET", f"/sessions/s/artifacts/{path}")
                assert SECRET not in answer.body, (n, path)
                seen.add(answer.status)
            assert b"only-here" not in daemon.request("GET", "/sessions/s/artifacts").body
            for method, path, body in (("PUT", "sub/f", b"inside"), ("PUT", "b", b"inside"), ("DELETE", "b", None)):
                seen.add(daemon.request(method, f"/sessions/s/artifacts/{path}", body).status)
    assert seen <= {200, 201, 204, 404, 409, 503}
    assert files(outside) == before
    until(lambda: daemon.request("GET", "/healthz").status == 200)


def test_a_removal_follows_no_link_that_is_swapped_in(daemon: RealDaemon, outside: Path) -> None:
    before = files(outside)
    for n in range(25):
        session = daemon.data_dir / "sessions" / f"gone-{n}"
        assert daemon.request("POST", "/sessions", {"session_id": session.name}).status == 201
        deep = session / "workspace" / "deep"
        for folder in (deep, deep / "er", deep / "est"):
            folder.mkdir()
            (folder / "f").touch()
        with swapped(deep, outside):
            daemon.request("DELETE", f"/sessions/{session.name}")
        assert files(outside) == before
    assert daemon.request("POST", "/admin/cleanup").status == 200


def test_output_is_read_from_the_session_and_from_nowhere_else(daemon: RealDaemon, outside: Path) -> None:
    task = daemon.wait(daemon.shell("s", "echo inside")["task_id"])
    name = f"{task['task_id']}.1.log"
    (outside / "output" / name).write_bytes(SECRET)
    (outside / name).write_bytes(SECRET)
    session = daemon.data_dir / "sessions" / "s"
    for place, target in (
        (session / "output", outside / "output"),
        (session / "output" / name, outside / name),
        (session, outside),
    ):
        with swapped(place, target):
            for _ in range(ROUNDS):
                for path in ("output", "output/lines", "output/search?q=outside"):
                    try:
                        answer = daemon.request("GET", f"/tasks/{task['task_id']}/{path}")
                    except http.client.IncompleteRead:
                        continue  # cut off: the log was gone between its size and its bytes
                    assert SECRET not in answer.body and b"what lies" not in answer.body
                    assert answer.status < 500


def test_a_log_that_was_a_link_is_not_written_through(daemon: RealDaemon, outside: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    daemon.shell("s", f"while ! test -e {go}; do sleep 0.01; done")
    task = daemon.shell("s", "echo inside")
    log = daemon.data_dir / "sessions" / "s" / "output" / f"{task['task_id']}.1.log"
    log.symlink_to(outside / "f")
    go.touch()
    daemon.wait(task["task_id"])
    assert (outside / "f").read_bytes() == SECRET
    assert SECRET not in daemon.request("GET", f"/tasks/{task['task_id']}/output").body


def test_a_hard_link_to_a_file_elsewhere_is_replaced_and_never_written_or_removed(
    daemon: RealDaemon, outside: Path
) -> None:
    artifacts = daemon.data_dir / "sessions" / "s" / "artifacts"
    os.link(outside / "f", artifacts / "f")
    os.link(outside / "b", artifacts / "b")
    assert daemon.request("PUT", "/sessions/s/artifacts/f", b"inside").status == 201
    assert daemon.request("DELETE", "/sessions/s/artifacts/b").status == 204
    assert (outside / "f").read_bytes() == (outside / "b").read_bytes() == SECRET


def test_a_task_gets_a_new_directory_for_one_that_is_gone_or_fails_and_says_so(
    daemon: RealDaemon, outside: Path
) -> None:
    workspace = daemon.data_dir / "sessions" / "s" / "workspace"
    shutil.rmtree(workspace)
    assert daemon.wait(daemon.shell("s", "touch here")["task_id"])["cause"]["code"] == "ok"
    assert files(workspace) == {"here": b""}
    shutil.rmtree(workspace)
    workspace.write_bytes(b"no directory")
    assert daemon.wait(daemon.shell("s", "pwd")["task_id"])["cause"]["code"] == "spawn_failed"
    workspace.unlink()
    workspace.mkdir()
    with swapped(workspace, outside):
        ends = [daemon.wait(daemon.shell("s", "echo x > written")["task_id"])["cause"]["code"] for _ in range(10)]
    assert set(ends) <= {"ok", "spawn_failed", "exit_code"}  # a new one, too, may be gone before it is written to
    assert daemon.request("GET", "/readyz").status == 200


def test_patterns_of_artifacts_keep_plain_files_alone(daemon: RealDaemon, outside: Path) -> None:
    make = (
        f"echo > own; mkfifo pipe; ln -s {outside}/f link; ln -s {outside} there; ln -s /dev/zero zero; mknod n c 1 3"
    )
    make += f"; {sys.executable} -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'; true"
    task = daemon.wait(daemon.shell("s", make, artifacts=["**"])["task_id"])
    kept = [each["path"] for each in daemon.get("/sessions/s/artifacts")["data"]]
    assert kept == [f"{task['task_id']}/own"]
    workspace = daemon.data_dir / "sessions" / "s" / "workspace"
    (workspace / "sub").mkdir()
    (workspace / "sub" / "f").write_bytes(b"inside")
    with swapped(workspace / "sub", outside):
        ended = [daemon.wait(daemon.shell("s", "true", artifacts=["sub/*"])["task_id"]) for _ in range(15)]
    assert {task["state"] for task in ended} == {"completed"}
    found = files(daemon.data_dir / "sessions" / "s" / "artifacts")
    assert SECRET not in found.values() and set(found.values()) <= {b"\n", b"inside"}
