"""Full disks, read-only directories, damaged files: a clear word, nothing lost, everything else goes on."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentd.store.locks import DirectoryLock

from .conftest import MakeDaemon
from .harness import Answer, RealDaemon, until

#: Room is given to a file by so many bytes.
PAGE = 4096


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 2 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)], check=False)
    if mounted.returncode:
        pytest.skip("mounting a small filesystem needs root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(path: Path) -> Path:
    """Use up a filesystem to the last byte."""
    filler = path / "filler"
    with open(filler, "ab", buffering=0) as file:
        for size in (1 << 16, 1 << 9, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler


def test_a_full_disk_refuses_writes_and_heals(make_daemon: MakeDaemon, small_disk: Path) -> None:
    daemon = make_daemon("small/data").start()
    done = daemon.shell("s", "echo before")["task_id"]
    daemon.wait(done)
    running = daemon.shell("s", "while ! test -e go; do sleep 0.02; done; echo through")["task_id"]
    daemon.state(running, "running")
    until(lambda: "running" in (daemon.data_dir / "sessions/s/tasks.json").read_text())
    filler = fill(small_disk)

    def refused() -> Answer | None:
        answer = daemon.request("POST", "/tasks", {"session_id": "s", "spec": {"command": "true"}})
        return answer if answer.status == 507 else None

    answer = until(refused)
    assert (answer.json["code"], answer.headers["content-type"]) == ("storage_full", "application/problem+json")
    assert "No space left" in answer.json["detail"]
    # Reads go on, and so does what runs.
    assert daemon.task(done)["state"] == "completed"
    assert daemon.task(running)["state"] == "running"
    status = daemon.get("/status")
    assert (status["state"], status["disk"]["full"]) == ("degraded", True)
    filler.unlink()
    (daemon.data_dir / "sessions/s/workspace/go").touch()
    assert daemon.wait(running)["state"] == "completed"
    after = daemon.shell("s", "echo after")["task_id"]
    assert daemon.wait(after)["state"] == "completed"
    assert daemon.get("/status")["disk"]["full"] is False
    daemon.kill9()
    daemon.start()
    assert [daemon.task(each)["state"] for each in (done, running, after)] == ["completed"] * 3
    assert daemon.stop() == 0


def test_the_end_of_a_task_on_a_full_disk_is_recorded_when_there_is_room(
    make_daemon: MakeDaemon, small_disk: Path
) -> None:
    daemon = make_daemon("small/data").start()
    task_id = daemon.shell("s", "while ! test -e go; do sleep 0.02; done; exit 4")["task_id"]
    daemon.state(task_id, "running")
    (daemon.data_dir / "sessions/s/workspace/go").touch()
    filler = fill(small_disk)
    daemon.task(task_id)
    filler.unlink()
    task = daemon.wait(task_id)
    assert (task["state"], task["cause"]["exit_code"]) == ("failed", 4)
    assert daemon.stop() == 0


def test_a_start_on_a_full_disk_serves_and_takes_up_what_it_could_not_record(
    make_daemon: MakeDaemon, small_disk: Path
) -> None:
    daemon = make_daemon(small_disk.name).start()  # it is the data directory; log and settings are elsewhere
    done = daemon.shell("s", "echo before")["task_id"]
    daemon.wait(done)
    running = daemon.shell("s", "while ! test -e go; do sleep 0.02; done")["task_id"]
    queued = daemon.shell("s", "echo later")["task_id"]
    daemon.state(running, "running")
    journal = daemon.data_dir / "sessions" / "s" / "history" / "events-000001.jsonl"
    while journal.stat().st_size % PAGE < PAGE - 300:  # so that no record fits into what it has of the disk
        assert daemon.request("POST", f"/tasks/{running}/progress", {"message": "on the way"}).status == 200
    daemon.kill9()
    filler = fill(small_disk)

    daemon.start()
    assert daemon.task(done)["state"] == "completed"
    assert daemon.request("GET", f"/tasks/{done}/output").body == b"before\n"
    task = daemon.task(running)
    assert (task["state"], task["cause"]["code"]) == ("failed", "interrupted"), "nothing is shown running that is not"
    assert daemon.get("/tasks?state=running")["data"] == []
    session = daemon.get("/sessions/s")
    assert (session["state"], session["counts"]) == ("damaged", {"completed": 1, "failed": 1, "queued": 1})
    assert "No space left" in session["reason"]
    answer = daemon.request("POST", "/sessions", {"session_id": "another"})
    assert (answer.status, answer.json["code"]) == (507, "storage_full")
    assert daemon.request("GET", "/readyz").status == 507
    assert daemon.get("/status")["disk"]["full"] is True
    filler.unlink()
    until(lambda: daemon.request("GET", "/readyz").status == 200, 30)  # though nobody writes
    assert daemon.wait(queued)["state"] == "completed"
    assert daemon.task(running)["cause"]["code"] == "interrupted"
    assert daemon.get("/sessions/s")["reason"] is None
    assert daemon.stop() == 0
    daemon.start()
    assert daemon.task(running)["cause"]["code"] == "interrupted"
    assert daemon.log_text().count('"clean":true') == 2


def test_a_session_that_another_program_holds_is_taken_up_when_it_lets_go(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    running = daemon.shell("held", "sleep 3094")["task_id"]
    queued = daemon.shell("held", "true")["task_id"]
    daemon.state(running, "running")
    until(lambda: "running" in (daemon.data_dir / "sessions/held/tasks.json").read_text())
    daemon.kill9()
    lock = DirectoryLock.take(daemon.data_dir / "sessions" / "held")
    assert lock is not None
    try:
        daemon.start()
        assert daemon.wait(daemon.shell("other", "true")["task_id"])["state"] == "completed"
        assert daemon.task(running)["cause"]["code"] == "interrupted"
        session = daemon.get("/sessions/held")
        assert session["state"] == "damaged"
        assert "another program" in session["reason"]
        answer = daemon.request("POST", "/sessions/held/task", {"spec": {"command": "true"}})
        assert (answer.status, answer.json["code"]) == (409, "session_read_only")
        answer = daemon.request("DELETE", "/sessions/held?force=true")
        assert (answer.status, answer.json["code"]) == (409, "session_read_only")
    finally:
        lock.release()
    assert daemon.wait(queued)["state"] == "completed"
    assert daemon.get("/sessions/held")["reason"] is None


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Callable[[Path, bool], None]]:
    """Makes the kernel refuse new files in a directory, to root too, or take them again."""

    def close(path: Path, yes: bool) -> None:
        if subprocess.run(["chattr", "+i" if yes else "-i", path], check=False, capture_output=True).returncode:
            pytest.skip("making a directory immutable needs root and a filesystem that knows it")

    yield close
    for path in (tmp_path / "data", tmp_path / "data" / "sessions"):
        subprocess.run(["chattr", "-i", path], check=False, capture_output=True)


def test_a_disk_that_takes_no_writes_is_told_until_it_does(
    daemon: RealDaemon, closed: Callable[[Path, bool], None]
) -> None:
    places = (daemon.data_dir, daemon.data_dir / "sessions")
    for place in places:
        closed(place, True)
    answer = daemon.request("POST", "/sessions", {"session_id": "s"})
    assert (answer.status, answer.json["code"]) == (503, "storage_failed")
    ready = until(lambda: found if (found := daemon.request("GET", "/readyz")).status != 200 else None)
    assert (ready.status, ready.json["code"]) == (503, "storage_failed")
    status = daemon.get("/status")
    assert (status["state"], status["disk"]["full"]) == ("degraded", False)
    assert "Operation not permitted" in status["disk"]["refusal"]
    for place in places:
        closed(place, False)
    until(lambda: daemon.request("GET", "/readyz").status == 200)  # though nobody writes
    assert daemon.get("/status")["disk"]["refusal"] is None
    assert daemon.wait(daemon.shell("s", "true")["task_id"])["state"] == "completed"


def serve_once(data_dir: Path, *arguments: str, user: int | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agentd.cli.main", "serve", "--data-dir", str(data_dir), "--port", "0", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        user=user,
        cwd="/",
    )


def test_a_data_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    result = serve_once(tmp_path / "file")
    assert result.returncode == 1
    assert str(tmp_path / "file") in result.stderr
    assert "Traceback" not in result.stderr


def test_a_read_only_data_directory_is_named(make_daemon: MakeDaemon, small_disk: Path) -> None:
    daemon = make_daemon("small/data").start()
    daemon.wait(daemon.shell("s", "true")["task_id"])
    assert daemon.stop() == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    result = serve_once(daemon.data_dir)
    assert result.returncode == 1
    assert "Read-only" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_newer_format_is_refused(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    assert daemon.stop() == 0
    (daemon.data_dir / "format.json").write_text('{"format": 99}\n')
    result = serve_once(daemon.data_dir)
    assert result.returncode == 2
    assert "99" in result.stderr


def damaged_session(daemon: RealDaemon) -> tuple[list[str], Path]:
    """A session of several finished tasks and the path of its journal; the daemon is stopped."""
    task_ids = [daemon.shell("bad", f"echo {n}")["task_id"] for n in range(3)]
    task_ids.append(daemon.shell("good", "echo fine")["task_id"])
    for task_id in task_ids:
        daemon.wait(task_id)
    daemon.kill9()
    return task_ids, daemon.data_dir / "sessions" / "bad" / "history" / "events-000001.jsonl"


def test_damage_in_the_journal_makes_one_session_read_only_and_says_why(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    task_ids, journal = damaged_session(daemon)
    (journal.parent.parent / "tasks.json").unlink()
    data = bytearray(journal.read_bytes())
    data[len(data) // 2] ^= 1
    journal.write_bytes(data)
    daemon.start()
    session = daemon.get("/sessions/bad")
    assert session["state"] == "damaged"
    assert session["reason"]
    answer = daemon.request("POST", "/sessions/bad/task", {"spec": {"command": "true"}})
    assert (answer.status, answer.json["code"]) == (409, "session_read_only")
    assert daemon.task(task_ids[-1])["state"] == "completed"
    assert daemon.wait(daemon.shell("good", "true")["task_id"])["state"] == "completed"
    assert journal.read_bytes() == data, "damage is never repaired by guessing"
    assert "bad" in [row["session_id"] for row in daemon.get("/sessions?state=damaged")["data"]]


def test_no_task_of_a_damaged_session_is_shown_running(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    running = daemon.shell("bad", "sleep 3095")["task_id"]
    daemon.state(running, "running")
    tasks = daemon.data_dir / "sessions/bad/tasks.json"
    until(lambda: "running" in tasks.read_text() and daemon.leftovers())
    daemon.kill9()
    journal = daemon.data_dir / "sessions/bad/history/events-000001.jsonl"
    journal.write_bytes(journal.read_bytes()[:-300])  # less than tasks.json was made from
    daemon.start()
    assert daemon.get("/sessions/bad")["state"] == "damaged"
    task = daemon.task(running)
    assert (task["state"], task["cause"]["code"]) == ("failed", "interrupted")
    assert daemon.leftovers() == []
    assert daemon.get("/tasks?state=running")["data"] == []


def test_a_truncated_journal_loses_only_the_torn_record_and_keeps_its_bytes(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    task_ids, journal = damaged_session(daemon)
    (journal.parent.parent / "tasks.json").unlink()
    data = journal.read_bytes()
    journal.write_bytes(data[:-7])
    daemon.start()
    assert daemon.task(task_ids[0])["state"] == "completed"
    kept = [path.read_bytes() for path in (daemon.data_dir / "quarantine").iterdir() if path.is_file()]
    assert any(data.rsplit(b"\n", 2)[1][:-7] in each for each in kept)


def test_a_corrupt_metadata_file_is_put_back_and_kept(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    daemon.request("POST", "/sessions", {"session_id": "s", "title": "mine"})
    daemon.wait(daemon.shell("s", "true")["task_id"])
    assert daemon.stop() == 0
    path = daemon.data_dir / "sessions" / "s" / "metadata.json"
    path.write_bytes(b"\0\0\0{{{")
    daemon.start()
    assert daemon.get("/sessions/s")["title"] == "mine"
    until(lambda: path.read_bytes().startswith(b"{") and json.loads(path.read_text())["title"] == "mine")
    assert [p.read_bytes() for p in path.parent.glob("metadata.json.refused-*")] == [b"\0\0\0{{{"]


def test_an_idempotency_key_gives_the_first_answer_also_after_a_restart(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    body = {"session_id": "s", "spec": {"command": "true"}}
    first = daemon.request("POST", "/tasks", body, Idempotency_Key="k1")
    daemon.wait(first.json["task_id"])
    for kill in (False, True):
        if kill:
            daemon.kill9()
            daemon.start()
        again = daemon.request("POST", "/tasks", body, Idempotency_Key="k1")
        assert (again.status, again.headers["idempotency-replayed"]) == (201, "true")
        assert again.json == first.json
        other = daemon.request("POST", "/tasks", {**body, "name": "x"}, Idempotency_Key="k1")
        assert (other.status, other.json["code"]) == (409, "idempotency_conflict")
    assert len(daemon.get("/sessions/s/tasks")["data"]) == 1


@pytest.mark.parametrize("session", [{}, {"session_id": "both"}])
def test_two_clients_with_one_key_at_the_same_moment_make_one_task(daemon: RealDaemon, session: dict[str, str]) -> None:
    barrier = threading.Barrier(8)
    answers: list[Answer] = []

    def submit() -> None:
        twin = RealDaemon(daemon.data_dir)
        twin.agent, twin.token = daemon.agent, daemon.token
        twin.connect()
        barrier.wait()
        answers.append(twin.request("POST", "/tasks", {**session, "spec": {"command": "true"}}, Idempotency_Key="one"))
        assert twin.connection is not None
        twin.connection.close()

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} == {201}
    assert len({answer.json["task_id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1


def test_files_are_for_the_owner_alone_and_the_token_is_nowhere_else(daemon: RealDaemon) -> None:
    daemon.wait(daemon.shell("s", "echo x; touch made")["task_id"])
    tasks = daemon.data_dir / "sessions" / "s" / "tasks.json"
    until(lambda: '"state":"completed"' in tasks.read_text())  # written last: no file comes or goes from now on
    for directory, _, files in os.walk(daemon.data_dir):
        if "/workspace" in directory:
            continue
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700, directory
        for name in files:
            path = Path(directory) / name
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
            if name != "token":
                assert daemon.token.encode() not in path.read_bytes(), path
    assert daemon.token not in daemon.log_text()
    for pid in [daemon.process.pid, *(w["pid"] for w in daemon.workers())]:  # type: ignore[union-attr]
        assert daemon.token.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_cleanup_says_first_and_then_does_what_it_said(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(retention={"tasks": {"max_count": 2}, "output": {"max_count": 1}}).start()
    task_ids = [daemon.shell("s", f"echo {n}")["task_id"] for n in range(5)]
    for task_id in task_ids:
        daemon.wait(task_id)
    pinned = daemon.request("POST", "/sessions", {"session_id": "keep", "policy": {"pinned": True}})
    assert pinned.status == 201
    kept = daemon.shell("keep", "echo kept")["task_id"]
    daemon.wait(kept)
    session = daemon.data_dir / "sessions" / "s"
    until(lambda: len(list((session / "history").glob("*-completed-*"))) == 5)
    said = daemon.request("POST", "/admin/cleanup?dry_run=true").json
    assert said["bytes"] > 0
    assert len(list((session / "history").glob("*-completed-*"))) == 5
    done = daemon.request("POST", "/admin/cleanup").json
    assert {**done, "dry_run": True} == said
    records = {path.name.rsplit("-", 1)[1] for path in (session / "history").glob("*-completed-*")}
    assert len(records) == 5 - said["tasks"]
    assert daemon.request("GET", f"/tasks/{task_ids[0]}").status == 404
    assert daemon.request("GET", f"/tasks/{kept}/output").body == b"kept\n"
    assert daemon.request("POST", "/admin/check").json["findings"] == []
    daemon.kill9()
    daemon.start()
    assert daemon.request("GET", f"/tasks/{task_ids[0]}").status == 404
    assert daemon.task(kept)["state"] == "completed"


def test_deleting_a_session_removes_all_of_it(daemon: RealDaemon) -> None:
    task_id = daemon.shell("s", "sleep 3091")["task_id"]
    daemon.state(task_id, "running")
    assert daemon.request("DELETE", "/sessions/s").json["code"] == "session_active"
    assert daemon.request("DELETE", "/sessions/s?force=true").status in (200, 204)
    assert not (daemon.data_dir / "sessions" / "s").exists()
    assert daemon.request("GET", f"/tasks/{task_id}").status == 404
    assert daemon.wait(daemon.shell("s", "true")["task_id"])["state"] == "completed"


def test_an_emergency_reset_ends_everything_and_reports(daemon: RealDaemon) -> None:
    running = [daemon.shell(f"s{n}", "trap '' TERM; sleep 3092")["task_id"] for n in range(2)]
    queued = daemon.shell("s0", "true")["task_id"]
    for task_id in running:
        daemon.state(task_id, "running")
    report = daemon.request("POST", "/admin/reset").json
    assert set(report["cancelled"]) == {*running, queued}
    assert report["workers_replaced"] >= 1
    assert all(daemon.task(task_id)["state"] == "cancelled" for task_id in [*running, queued])
    assert daemon.wait(daemon.shell("s0", "echo back")["task_id"])["state"] == "completed"
