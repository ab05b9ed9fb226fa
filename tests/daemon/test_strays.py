"""Names and files that others put, or take away, under the daemon."""

from __future__ import annotations

import shutil
import signal

from .conftest import MakeDaemon
from .harness import RealDaemon, marked, until


def test_stray_names_do_not_keep_the_daemon_from_starting(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    daemon.wait(daemon.shell("s", "true")["task_id"])
    assert daemon.stop() == 0
    sessions = daemon.data_dir / "sessions"
    (sessions / ".new-a").touch()
    (sessions / ".deleted-b").symlink_to("/")
    (sessions / "file").touch()
    daemon.start()
    assert [session["session_id"] for session in daemon.get("/sessions")["data"]] == ["s"]
    assert not (sessions / ".new-a").exists()


def test_nothing_is_acknowledged_for_a_session_whose_files_are_gone(daemon: RealDaemon) -> None:
    daemon.wait(daemon.shell("s", "true")["task_id"])
    session = daemon.data_dir / "sessions" / "s"
    until(lambda: '"state":"completed"' in (session / "tasks.json").read_text())  # nothing is being written there
    shutil.rmtree(session)
    answer = daemon.request("POST", "/tasks", {"session_id": "s", "spec": {"command": "true"}})
    assert (answer.status, answer.json["code"]) in ((503, "storage_failed"), (409, "session_read_only"))
    until(lambda: daemon.get("/sessions/s")["state"] == "damaged")
    assert daemon.wait(daemon.shell("other", "true")["task_id"])["state"] == "completed"


def test_a_result_too_deep_to_show_is_kept_as_text(daemon: RealDaemon) -> None:
    task_id = daemon.shell(
        "s", "printf '[%.0s' $(seq 900) > $AGENTD_RESULT; printf ']%.0s' $(seq 900) >> $AGENTD_RESULT"
    )["task_id"]
    task = daemon.wait(task_id)
    assert (task["state"], task["result"].keys()) == ("completed", {"text"})
    assert daemon.request("GET", "/tasks").status == 200


def test_a_hangup_drains_like_any_stop(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(drain_s=0.1).start()
    task_id = daemon.shell("s", "sleep 3101.5")["task_id"]
    until(lambda: marked("3101.5"))
    assert daemon.stop(number=signal.SIGHUP) == 0
    daemon.start()
    assert daemon.task(task_id)["cause"]["code"] == "shutdown"
