"""kill -9 of the daemon at any moment: the next start shows what is so."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .conftest import MakeDaemon
from .harness import RealDaemon, marked, until

#: A shell command that leaves a process behind which nothing but its parent ties to it: own session, no environment.
ESCAPE = "setsid sh -c 'env -i sleep {mark} & sleep {mark}' & sleep {mark}"


def started(daemon: RealDaemon, session_id: str, mark: str, **fields: object) -> str:
    """A task that runs a tree of processes with the mark in their command lines."""
    task_id: str = daemon.shell(session_id, ESCAPE.format(mark=mark), **fields)["task_id"]
    until(lambda: len(marked(mark)) >= 3)
    return task_id


def test_what_was_running_is_interrupted_and_the_queue_goes_on(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    done = daemon.shell("s", "echo done")["task_id"]
    before = daemon.wait(done)
    running = started(daemon, "s", "3071.25")
    queued = [daemon.shell("s", "echo next")["task_id"] for _ in range(5)]
    waiting = daemon.shell("s", "echo after", needs=[queued[-1]])["task_id"]
    daemon.kill9()

    daemon.start()
    task = daemon.task(running)
    assert (task["state"], task["cause"]["code"]) == ("failed", "interrupted")
    assert marked("3071.25") == []
    assert daemon.task(done) == before
    for task_id in [*queued, waiting]:
        ended = daemon.wait(task_id)
        assert (ended["state"], ended["attempt"]) == ("completed", 1)


def test_a_task_may_ask_to_run_again_after_an_interruption(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    daemon = make_daemon().start()
    first = tmp_path / "first"
    command = f"if test -e {first}; then echo again; else touch {first}; sleep 3072; fi"
    task_id = daemon.shell("s", command, on_interrupt="retry")["task_id"]
    until(first.exists)
    daemon.kill9()
    daemon.start()
    task = daemon.wait(task_id)
    assert task["state"] == "completed"
    assert [attempt["cause"]["code"] for attempt in task["attempts"]] == ["interrupted", "ok"]
    assert [step["state"] for step in task["transitions"]] == ["queued", "running", "queued", "running", "completed"]


def test_what_was_cancelled_and_not_yet_dead_is_cancelled(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(workers={"grace_s": 60}).start()
    command = "trap '' TERM; sleep 3073.5 & wait; sleep 3073.5"
    task_id = daemon.shell("s", command)["task_id"]
    until(lambda: marked("3073.5"))
    assert daemon.request("POST", f"/tasks/{task_id}/cancel").status == 202
    assert daemon.task(task_id)["cancel_requested_at"]
    daemon.kill9()
    daemon.start()
    task = daemon.task(task_id)
    assert (task["state"], task["cause"]["code"]) == ("cancelled", "cancelled_by_user")
    assert marked("3073.5") == []


def test_the_recovery_is_an_event_that_counts_what_it_did(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    started(daemon, "one", "3074.25")
    started(daemon, "two", "3074.75", on_interrupt="retry")
    daemon.kill9()
    daemon.start()
    lines = [json.loads(line) for line in daemon.log_text().splitlines() if '"agent.recovered"' in line]
    first, second = lines
    assert first["clean"] is True
    assert (second["clean"], second["interrupted"], second["requeued"]) == (False, 1, 1)


def test_no_process_survives_when_workers_and_daemon_die_at_once(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    command = "setsid sh -c 'sleep 3075.5 & sleep 3075.5' & sleep 3075.5"
    task_id = daemon.shell("s", command)["task_id"]
    until(lambda: len(marked("3075.5")) >= 3)
    pids = [worker["pid"] for worker in daemon.workers()]
    subprocess.run(["kill", "-9", str(daemon.process.pid), *map(str, pids)], check=True)  # type: ignore[union-attr]
    daemon.kill9()
    daemon.start()
    assert marked("3075.5") == []
    assert daemon.task(task_id)["cause"]["code"] == "interrupted"


@pytest.mark.parametrize("seed", range(4))
def test_no_acknowledged_task_is_lost_and_none_runs_twice(make_daemon: MakeDaemon, tmp_path: Path, seed: int) -> None:
    """Tasks are submitted as fast as they go; the daemon is killed somewhere among them, three times."""
    chance = random.Random(seed)
    runs = tmp_path / "runs"
    runs.touch()
    daemon = make_daemon().start()
    acknowledged: list[str] = []
    for _ in range(3):
        moment = time.monotonic() + chance.uniform(0.01, 0.4)
        killer = subprocess.Popen(
            [sys.executable, "-c", f"import time,os; time.sleep(max(0, {moment} - time.monotonic())); "
             f"os.kill({daemon.process.pid}, 9)"]  # type: ignore[union-attr]
        )  # fmt: skip
        try:
            while True:
                command = f"echo $AGENTD_TASK_ID >> {runs}"
                acknowledged.append(daemon.shell(f"s{chance.randrange(3)}", command)["task_id"])
        except (OSError, AssertionError, Exception):  # the connection breaks somewhere
            pass
        killer.wait()
        daemon.kill9()
        daemon.start()
    for task_id in acknowledged:
        daemon.wait(task_id)
    ran = runs.read_text().split()
    assert len(ran) == len(set(ran)), "a task ran twice"
    tasks = {task_id: daemon.task(task_id) for task_id in acknowledged}
    for task_id, task in tasks.items():
        assert task["state"] == "completed" or task["cause"]["code"] == "interrupted"
        assert task["state"] != "completed" or task_id in ran
    assert sum(task["state"] == "completed" for task in tasks.values()) >= len(tasks) - 3 * 3


def test_a_clean_stop_drains_and_the_queue_waits_for_the_next_start(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(drain_s=120).start()
    go = daemon.data_dir.with_name("go")
    quick = daemon.shell("a", f"until [ -e {go} ]; do sleep 0.05; done")["task_id"]
    slow = started(daemon, "b", "3076.25")
    queued = daemon.shell("b", "echo later")["task_id"]
    daemon.state(quick, "running")
    with ThreadPoolExecutor(1) as aside:
        stopped = aside.submit(daemon.stop)
        until(lambda: "agent.draining" in daemon.log_text())
        go.touch()
        until(lambda: '"state":"completed"' in (daemon.data_dir / "sessions/a/tasks.json").read_text())
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)  # the other one would take all of the drain
        assert stopped.result() == 0
    assert marked("3076.25") == []
    files = daemon.data_dir / "sessions"
    states = {
        task["task_id"]: task
        for each in "ab"
        for task in json.loads((files / each / "tasks.json").read_text())["tasks"]
    }
    assert states[quick]["state"] == "completed"
    assert (states[slow]["state"], states[slow]["cause"]["code"]) == ("failed", "shutdown")
    assert states[queued]["state"] == "queued"
    daemon.start()
    assert daemon.wait(queued)["state"] == "completed"
    assert daemon.log_text().count('"clean":true') == 2


def test_a_second_daemon_on_the_directory_exits_2_and_names_the_first(daemon: RealDaemon) -> None:
    assert daemon.process is not None
    second = subprocess.run(
        [sys.executable, "-m", "agentd.cli.main", "serve", "--data-dir", str(daemon.data_dir), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 2
    assert str(daemon.process.pid) in second.stderr
    assert daemon.agent["url"] in second.stderr


def test_a_daemon_on_a_copy_leaves_the_tasks_of_the_original_alone(make_daemon: MakeDaemon) -> None:
    original = make_daemon("original").start()
    task_id = started(original, "s", "3077.25")
    tasks = original.data_dir / "sessions/s/tasks.json"
    until(lambda: re.search(r'"pid":\d', tasks.read_text()))  # no file comes or goes from now on
    tree = set(marked("3077.25"))
    copy = make_daemon("copy")
    shutil.copytree(original.data_dir, copy.data_dir)
    copy.start()
    assert copy.task(task_id)["cause"]["code"] == "interrupted"
    assert original.task(task_id)["state"] == "running"
    assert set(marked("3077.25")) == tree
    assert copy.agent["agent_id"] != original.agent["agent_id"]
    original.request("DELETE", f"/tasks/{task_id}")
    original.wait(task_id)
