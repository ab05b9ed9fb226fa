"""What is refused because there is enough, or too late: said with a code and when to come back, and nothing lost."""

from __future__ import annotations

from .conftest import MakeDaemon
from .harness import Answer, RealDaemon

SLEEP = {"kind": "shell", "spec": {"command": "sleep 3231"}}


def refusal(answer: Answer) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    return answer.status, answer.json["code"]


def test_unfinished_tasks_are_bounded_for_a_session_and_for_all(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(limits={"live_tasks": 3, "live_tasks_per_session": 2}, workers={"grace_s": 0.2}).start()
    first = daemon.shell("a", "sleep 3231")["task_id"]
    daemon.shell("a", "sleep 3231")
    assert refusal(daemon.request("POST", "/sessions/a/task", SLEEP)) == (503, "queue_full")
    daemon.shell("b", "sleep 3231")
    assert refusal(daemon.request("POST", "/tasks", {**SLEEP, "session_id": "b"})) == (503, "queue_full")
    assert refusal(daemon.request("POST", "/tasks", {**SLEEP, "session_id": "c"})) == (503, "queue_full")
    assert [row["session_id"] for row in daemon.get("/sessions?sort=session_id")["data"]] == ["a", "b"]
    daemon.request("DELETE", f"/tasks/{first}")
    daemon.wait(first)
    assert daemon.request("POST", "/sessions/a/task", SLEEP).status == 201


def test_sessions_are_bounded_and_a_deleted_one_makes_room(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(limits={"sessions": 1}).start()
    assert daemon.request("POST", "/sessions", {"session_id": "a"}).status == 201
    assert refusal(daemon.request("POST", "/sessions", {"session_id": "b"})) == (503, "queue_full")
    assert daemon.request("POST", "/sessions/a/task", {"spec": {"command": "true"}}).status == 201
    assert daemon.request("DELETE", "/sessions/a?force=true").status == 204
    assert daemon.request("POST", "/sessions", {"session_id": "b"}).status == 201


def test_a_draining_daemon_takes_nothing_new_and_says_so(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(drain_s=60).start()
    running = daemon.shell("s", "while ! test -e go; do sleep 0.02; done")["task_id"]
    daemon.state(running, "running")
    queued = daemon.shell("s", "true")["task_id"]
    assert daemon.request("POST", "/shutdown").status == 202
    assert daemon.get("/status")["state"] == "draining"
    assert refusal(daemon.request("POST", "/sessions/s/task", SLEEP)) == (503, "draining")
    assert refusal(daemon.request("GET", "/readyz")) == (503, "draining")
    assert daemon.get("/queue")["data"][0]["reason"] == "the daemon is draining"
    (daemon.data_dir / "sessions" / "s" / "workspace" / "go").touch()
    assert daemon.process is not None
    assert daemon.process.wait(60) == 0
    assert daemon.connection is not None
    daemon.connection.close()
    daemon.start()
    assert daemon.task(running)["state"] == "completed"
    assert daemon.wait(queued)["state"] == "completed"


def test_the_timeout_of_a_session_goes_on_over_a_restart(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    daemon.request("POST", "/sessions", {"session_id": "s", "policy": {"timeout_s": 0.8}})
    waiting = daemon.shell("s", "true", not_before="2099-01-01T00:00:00Z")["task_id"]
    daemon.kill9()
    daemon.start()
    task = daemon.wait(waiting)
    assert (task["state"], task["cause"]["code"]) == ("cancelled", "session_timeout")


def test_the_end_of_a_need_reaches_all_that_wait_for_it(daemon: RealDaemon) -> None:
    first = daemon.shell("s", "sleep 3232")["task_id"]
    daemon.state(first, "running")
    second = daemon.shell("s", "true", needs=[first])["task_id"]
    third = daemon.shell("s", "true", needs=[second])["task_id"]
    daemon.request("DELETE", f"/tasks/{first}")
    for task_id, need in ((second, first), (third, second)):
        task = daemon.wait(task_id)
        assert (task["state"], task["cause"]["code"]) == ("failed", "dependency_failed")
        assert need in task["cause"]["message"]
        assert task["attempts"] == []
