"""Tasks run: order, fairness, needs, retries, timeouts, workers that die."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from .conftest import MakeDaemon
from .harness import RealDaemon, marked, until

#: A command that ends once `go` is called for its session.
GO = "while ! test -e go; do sleep 0.01; done"


def go(daemon: RealDaemon, session_id: str) -> None:
    (daemon.data_dir / "sessions" / session_id / "workspace" / "go").touch()


def ids(daemon: RealDaemon, commands: list[tuple[str, str]], **fields: object) -> list[str]:
    return [daemon.shell(session, command, **fields)["task_id"] for session, command in commands]


def order(daemon: RealDaemon, task_ids: list[str]) -> list[str]:
    """The ids by the time at which they started."""
    tasks = [daemon.wait(task_id) for task_id in task_ids]
    return [task["task_id"] for task in sorted(tasks, key=lambda task: task["started_at"])]


def test_a_task_runs_and_all_views_tell_the_same(daemon: RealDaemon) -> None:
    task_id = daemon.shell("s", "echo hello; echo oops >&2; exit 3", name="first")["task_id"]
    task = daemon.wait(task_id)
    assert (task["state"], task["cause"]["code"], task["cause"]["exit_code"]) == ("failed", "exit_code", 3)
    assert task["attempts"][0]["exit_code"] == 3
    assert task["duration_s"] > 0
    session = daemon.data_dir / "sessions" / "s"
    until(
        lambda: (
            task_id in (session / "tasks.json").read_text()
            and '"state":"failed"' in (session / "tasks.json").read_text()
        )
    )
    assert (session / "output" / f"{task_id}.1.log").read_bytes() == b"hello\noops\n"
    (record,) = until(lambda: list((session / "history").glob(f"*-failed-{task_id}.json")))
    assert task_id in record.read_text()
    assert daemon.request("GET", f"/tasks/{task_id}/output").body == b"hello\noops\n"


def test_a_session_runs_its_tasks_one_by_one_by_priority_then_arrival(daemon: RealDaemon) -> None:
    blocker = daemon.shell("s", GO)["task_id"]
    daemon.state(blocker, "running")
    low = ids(daemon, [("s", "true"), ("s", "true")])
    high = ids(daemon, [("s", "true")], priority=5)
    go(daemon, "s")
    assert order(daemon, [blocker, *low, *high]) == [blocker, *high, *low]


def test_a_long_queue_does_not_starve_another_session(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(workers={"min": 1, "max": 1}).start()
    long = ids(daemon, [("long", GO)] * 10)
    (other,) = ids(daemon, [("other", "true")])
    go(daemon, "long")
    assert order(daemon, [*long, other]).index(other) <= 3


def test_max_parallel_lets_a_session_run_several_at_once(daemon: RealDaemon) -> None:
    assert daemon.request("POST", "/sessions", {"session_id": "p", "policy": {"max_parallel": 3}}).status == 201
    task_ids = ids(daemon, [("p", "sleep 3081")] * 4)
    until(lambda: sum(daemon.task(task_id)["state"] == "running" for task_id in task_ids) == 3)
    reasons = [row["reason"] for row in daemon.get("/queue")["data"]]
    assert reasons == ["the session runs 3 of max_parallel 3"]
    assert daemon.request("POST", "/sessions/p/cancel").status in (200, 202)
    assert all(daemon.wait(task_id)["state"] == "cancelled" for task_id in task_ids)


def test_a_task_waits_for_what_it_needs_and_fails_when_that_fails(daemon: RealDaemon) -> None:
    good = daemon.shell("s", GO)["task_id"]
    after_good = daemon.shell("s", "true", needs=[good])
    assert after_good["state"] == "waiting"
    bad = daemon.shell("s", "false")["task_id"]
    after_bad = daemon.shell("s", "true", needs=[bad])["task_id"]
    after_that = daemon.shell("s", "true", needs=[after_bad])["task_id"]
    go(daemon, "s")
    assert daemon.wait(after_good["task_id"])["state"] == "completed"
    for task_id in (after_bad, after_that):
        task = daemon.wait(task_id)
        assert (task["state"], task["cause"]["code"], task["attempt"]) == ("failed", "dependency_failed", 0)


def test_a_task_starts_no_earlier_than_asked(daemon: RealDaemon) -> None:
    due = time.time() + 0.7
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(due)) + f".{int(due % 1 * 1e6):06d}Z"
    task = daemon.shell("s", "date +%s.%N", not_before=stamp)
    assert task["state"] == "waiting" or task["created_at"] >= stamp  # a busy machine may take as long
    daemon.wait(task["task_id"])
    assert float(daemon.request("GET", f"/tasks/{task['task_id']}/output").body) >= due


def test_a_failed_attempt_is_tried_again_after_a_pause(daemon: RealDaemon, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    retry = {"max": 3, "backoff_s": 0.05, "factor": 1, "jitter": 0}
    task_id = daemon.shell("s", f"echo x >> {tries}; test $(wc -l < {tries}) -ge 3", retry=retry)["task_id"]
    task = daemon.wait(task_id)
    assert (task["state"], task["attempt"]) == ("completed", 3)
    assert [attempt["exit_code"] for attempt in task["attempts"]] == [1, 1, 0]
    outputs = [daemon.request("GET", f"/tasks/{task_id}/output?attempt={n}").status for n in (1, 2, 3)]
    assert outputs == [200, 200, 200]


def test_retries_run_out(daemon: RealDaemon) -> None:
    retry = {"max": 2, "backoff_s": 0.01}
    task = daemon.wait(daemon.shell("s", "exit 7", retry=retry)["task_id"])
    assert (task["state"], task["attempt"], task["cause"]["exit_code"]) == ("failed", 3, 7)


def test_a_timeout_ends_the_attempt_and_its_tree(daemon: RealDaemon) -> None:
    task = daemon.wait(daemon.shell("s", "sleep 3082.5 & sleep 3082.5", timeout_s=0.3)["task_id"])
    assert (task["state"], task["cause"]["code"]) == ("timeout", "timeout")
    assert marked("3082.5") == []


def test_a_session_timeout_ends_all_of_the_session(daemon: RealDaemon) -> None:
    running, queued = ids(daemon, [("t", "sleep 3083"), ("t", "true")])
    daemon.state(running, "running")
    assert daemon.request("PATCH", "/sessions/t", {"policy": {"timeout_s": 1}}).status == 200
    task = daemon.wait(running)
    assert (task["state"], task["cause"]["code"]) == ("timeout", "session_timeout")
    task = daemon.wait(queued)
    assert (task["state"], task["cause"]["code"]) == ("cancelled", "session_timeout")


def test_cancelling_a_running_task_ends_its_whole_tree(daemon: RealDaemon) -> None:
    task_id = daemon.shell("s", "setsid sleep 3084.5 & (trap '' TERM; sleep 3084.5)", name="x")["task_id"]
    until(lambda: len(marked("3084.5")) >= 2)
    assert daemon.request("DELETE", f"/tasks/{task_id}").status == 202
    task = daemon.wait(task_id)
    assert (task["state"], task["cause"]["code"]) == ("cancelled", "cancelled_by_user")
    assert marked("3084.5") == []
    assert daemon.request("DELETE", f"/tasks/{task_id}").status == 409


def test_a_cancelled_task_that_exits_0_is_still_cancelled(daemon: RealDaemon) -> None:
    task_id = daemon.shell("s", "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done")["task_id"]
    until(lambda: b"up" in daemon.request("GET", f"/tasks/{task_id}/output").body)
    daemon.request("DELETE", f"/tasks/{task_id}")
    task = daemon.wait(task_id)
    assert (task["state"], task["attempts"][0]["cause"]["code"]) == ("cancelled", "cancelled_by_user")


def test_killing_a_worker_ends_its_task_at_once_and_the_next_one_runs(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(workers={"min": 1, "max": 1}).start()
    task_id = daemon.shell("s", "setsid env -i sleep 3085.5 & sleep 3085.5")["task_id"]
    following = daemon.shell("s", "true")["task_id"]
    until(lambda: len(marked("3085.5")) >= 2)
    (worker,) = daemon.workers()
    assert (worker["state"], worker["task_id"]) == ("busy", task_id)
    os.kill(worker["pid"], signal.SIGKILL)
    task = daemon.wait(task_id)
    assert (task["state"], task["cause"]["code"]) == ("failed", "worker_lost")
    assert marked("3085.5") == []
    assert daemon.wait(following)["state"] == "completed"


@pytest.mark.parametrize("too", ["alone", "with its workers"])
def test_a_daemon_that_was_stopped_for_a_while_does_not_call_its_workers_silent(
    make_daemon: MakeDaemon, too: str
) -> None:
    daemon = make_daemon(workers={"heartbeat_s": 1}).start()
    assert daemon.process is not None
    task_id = daemon.shell("s", "while ! test -e go; do sleep 0.02; done")["task_id"]
    daemon.state(task_id, "running")
    stopped = [daemon.process.pid]
    if too != "alone":
        stopped += [worker["pid"] for worker in daemon.workers()]
    for lasts_s in (4.5, 3.3):  # the next look is at 3 s: it comes late once, and once nearly in time
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(lasts_s)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        assert daemon.task(task_id)["state"] == "running"
    (daemon.data_dir / "sessions/s/workspace/go").touch()
    assert daemon.wait(task_id)["cause"]["code"] == "ok"


def test_a_task_can_ask_for_a_retry_when_its_worker_is_lost(daemon: RealDaemon, tmp_path: Path) -> None:
    first = tmp_path / "first"
    command = f"test -e {first} || {{ touch {first}; sleep 3086; }}"
    task_id = daemon.shell("s", command, retry={"max": 1, "on": ["worker_lost"], "backoff_s": 0})["task_id"]
    until(first.exists)
    worker = next(worker for worker in daemon.workers() if worker["task_id"] == task_id)
    os.kill(worker["pid"], signal.SIGKILL)
    task = daemon.wait(task_id)
    assert [attempt["cause"]["code"] for attempt in task["attempts"]] == ["worker_lost", "ok"]


def test_a_hundred_tasks_run_at_once(daemon: RealDaemon) -> None:
    task_ids = ids(daemon, [(f"s{n}", "sleep 3087") for n in range(100)])
    until(lambda: len(daemon.get("/status")["current"]) == 100)
    for n in range(100):
        daemon.request("POST", f"/sessions/s{n}/cancel")
    assert all(daemon.wait(task_id)["state"] == "cancelled" for task_id in task_ids)


def test_a_queue_nobody_serves_says_so_and_blocks_nobody(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(workers={"queues": ["fast"]}).start()
    stuck = daemon.shell("s", "true", queue="slow")["task_id"]
    assert daemon.wait(daemon.shell("s", "true", queue="fast")["task_id"])["state"] == "completed"
    (row,) = daemon.get("/queue")["data"]
    assert (row["task_id"], row["position"]) == (stuck, None)
    assert "slow" in row["reason"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"argv": ["no-such-program-here"]}, "no-such-program-here"),
        ({"command": "true", "cwd": "/no/such/place"}, "/no/such/place"),
    ],
)
def test_what_cannot_be_started_says_why(daemon: RealDaemon, spec: dict[str, object], said: str) -> None:
    answer = daemon.request("POST", "/tasks", {"kind": "shell", "spec": spec})
    task = daemon.wait(answer.json["task_id"])
    assert (task["state"], task["cause"]["code"]) == ("failed", "spawn_failed")
    assert said in task["cause"]["message"]
