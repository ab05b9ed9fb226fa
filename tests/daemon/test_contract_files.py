"""The names that other programs read: files, their fields, and the fields of a task."""

from __future__ import annotations

import json
import re

import pytest

from .harness import RealDaemon, until

#: What a client may read of a task and of each attempt.
TASK_FIELDS = """
    task_id session_id kind spec name state cause priority queue needs labels trigger attempt attempts timeout_s retry
    on_interrupt progress phase message items_processed items_failed result created_at queued_at started_at ended_at
    duration_s wait_s cancel_requested_at awaiting retry_of transitions seq
"""
ATTEMPT_FIELDS = "n worker_id pid started_at ended_at exit_code signal cause usage"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def test_the_data_directory_has_the_files_and_fields_that_are_promised(daemon: RealDaemon) -> None:
    data = daemon.data_dir
    assert json.loads((data / "format.json").read_text()) == {"format": 1}
    agent = {"agent_id", "boot_id", "pid", "pid_started_at", "url", "version", "started_at"}
    assert agent <= json.loads((data / "agent.json").read_text()).keys()
    task_id = daemon.wait(daemon.shell("s", "echo hi")["task_id"])["task_id"]
    session = data / "sessions" / "s"
    record = until(lambda: list((session / "history").glob(f"*-completed-{task_id}.json")))[0]
    assert re.fullmatch(r"\d{6}-completed-[0-9a-z]{14}\.json", record.name)
    until(lambda: '"completed"' in (session / "tasks.json").read_text())
    names = {path.name for path in session.iterdir()}
    assert names == {"metadata.json", "tasks.json", "history", "output", "artifacts", "workspace", "home"}
    assert {path.name for path in (session / "output").iterdir()} == {f"{task_id}.1.log", f"{task_id}.1.idx"}

    metadata = json.loads((session / "metadata.json").read_text())
    assert {"session_id", "title", "labels", "policy", "owner", "archived", "created_at", "seq"} <= metadata.keys()
    tasks = json.loads((session / "tasks.json").read_text())
    assert {"format", "session_id", "seq", "journal", "tasks"} <= tasks.keys()
    assert tasks["journal"].keys() == {"file", "offset", "crc"}
    lines = (session / "tasks.json").read_text().splitlines()
    assert len([line for line in lines if line.startswith('{"task_id"')]) == 1, "a task is one line, for grep"

    journal = (session / "history" / "events-000001.jsonl").read_bytes()
    assert tasks["journal"]["offset"] == len(journal)
    events = [json.loads(line) for line in journal.splitlines()[1:]]
    assert all({"seq", "b", "at", "type", "crc"} <= event.keys() for event in events)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    # A slow start is worth a record of its own, task.spawned.
    types = [event["type"] for event in events if event["type"] != "task.spawned"]
    assert types == ["session.created", "task.created", "task.started", "task.finished"]


def test_a_task_has_every_field_of_the_contract_and_its_record_the_same(daemon: RealDaemon) -> None:
    task = daemon.wait(daemon.shell("s", "echo hi", labels={"a": "b"}, priority=3)["task_id"])
    assert task.keys() >= set(TASK_FIELDS.split())
    (attempt,) = task["attempts"]
    assert attempt.keys() >= set(ATTEMPT_FIELDS.split())
    assert attempt["usage"].keys() == {"max_rss_bytes", "user_s", "system_s"}
    assert [step["state"] for step in task["transitions"]] == ["queued", "running", "completed"]
    assert all(step.keys() == {"state", "at", "attempt", "cause"} for step in task["transitions"])
    assert all(TIME.fullmatch(task[name]) for name in ("created_at", "queued_at", "started_at", "ended_at"))
    history = daemon.data_dir / "sessions" / "s" / "history"
    record = until(lambda: list(history.glob(f"*-completed-{task['task_id']}.json")))[0]
    assert json.loads(record.read_text()) == task == daemon.get("/sessions/s/history")["data"][0]


@pytest.mark.parametrize("sid", ["a", "A.b-c_d", "-dash", "9", "a" * 128])
def test_a_good_session_id_is_a_directory_of_that_name(daemon: RealDaemon, sid: str) -> None:
    assert daemon.request("POST", "/sessions", {"session_id": sid}).status == 201
    assert (daemon.data_dir / "sessions" / sid / "metadata.json").is_file()
