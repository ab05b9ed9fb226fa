"""kill -9, over and over: what is shown afterwards, what runs, what ran twice, and what was left alive."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from time import perf_counter, sleep

from benchlib.daemon import TERMINAL, Client, Daemon
from benchlib.figures import Row, ms, percentile
from benchlib.processes import every_pid, tagged, until

QUEUED = 4


def crashes(directory: Path, times: int) -> list[Row]:
    """One task running (with a child in a session of its own) and four queued; the daemon, or all of it, is killed."""
    chance = random.Random(20_260_101)
    marks = directory / "marks"
    marks.mkdir()
    daemon = Daemon(directory / "crash", workers_min=1, workers_max=4)
    daemon.start()
    right = 0
    faults: list[str] = []
    delays = []
    try:
        for number in range(times):
            session_id = f"crash-{number:03}"
            with daemon.client() as client:
                client.session(session_id)
                running = client.submit(session_id, "sh", "-c", _long(marks, session_id))
                queued = [
                    client.submit(session_id, "sh", "-c", f"echo x >> {marks}/{session_id}.{n}") for n in range(QUEUED)
                ]
            started = marks / f"{session_id}.run"
            if number % 3:  # else at whatever moment this is
                until(partial(_written, started), 10)
                if not tagged(f"AGENTD_TASK_ID={running}"):
                    raise RuntimeError(f"{running} runs and carries no tag: survivors could not be seen")
            sleep(chance.random() * 0.05)
            daemon.kill(workers_too=number % 2 == 1)
            daemon.start()
            delay, fault = _settled(daemon, running, started)
            delays.append(delay)
            with daemon.client() as client:
                fault = fault or _resumed(client, marks, session_id, running, queued)
            fault = fault or _survivors([running, *queued])
            right += fault is None
            if fault:
                faults.append(f"{session_id}: {fault}")
    finally:
        daemon.stop()
    for fault in faults[:10]:
        print(fault)
    figure = f"{right} of {times} right; the state was right {ms(percentile(delays, 100))} after ready at the latest"
    bar = "all: right ≤ 1 s after ready, queue resumes, 0 double runs, 0 survivors"
    return [Row(f"`kill -9`, {times} times, of the daemon alone and with its workers", figure, bar, right == times)]


def _written(path: Path) -> bool:
    return path.exists() and path.read_text().endswith("\n")


def _long(marks: Path, session_id: str) -> str:
    return f"echo x >> {marks}/{session_id}.run; setsid sleep 1000 & sleep 1000"


def _settled(daemon: Daemon, running: str, started: Path) -> tuple[float, str | None]:
    """How long after ready the long task is shown as what it is: ended, or not yet (or newly) started."""
    ready = perf_counter()
    task = {}
    with daemon.client() as client:
        about = client.call("GET", "/status")
        while (delay := perf_counter() - ready) < 1.0:
            task = client.call("GET", f"/tasks/{running}")
            old = [attempt for attempt in task["attempts"] if attempt["boot_id"] != about["boot_id"]]
            if task["state"] in TERMINAL and task["cause"]["code"] == "interrupted":
                return delay, None
            if not old and task["state"] in {"queued", "running"}:
                return delay, None  # killed before it began: it is right that it waits, or runs now
    return delay, f"the running task is shown as {task['state']}, {task.get('cause')}, after {delay:.2f} s"


def _resumed(client: Client, marks: Path, session_id: str, running: str, queued: list[str]) -> str | None:
    if client.call("GET", f"/tasks/{running}")["state"] not in TERMINAL:
        client.call("POST", f"/tasks/{running}/cancel")
        client.wait(running)
    for number, task_id in enumerate(queued):
        task = client.wait(task_id, 30)
        if task["state"] != "completed":
            return f"queued task {number} ended {task['state']}: {task['cause']}"
    for path in marks.glob(f"{session_id}.*"):
        if (runs := path.read_text().count("\n")) != 1:
            return f"{path.name} ran {runs} times"
    return None


def _survivors(task_ids: list[str]) -> str | None:
    alive = [pid for task_id in task_ids for pid in tagged(f"AGENTD_TASK_ID={task_id}")]
    return f"alive: {alive} of {len(every_pid())}" if alive else None
