"""Sessions, workers, queue, events, retention, tokens and the check, each against a real daemon."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from benchlib.daemon import open_streams
from benchlib.processes import PATIENCE_S, until
from tests.cli.daemon_process import Agentd


def test_a_session_is_made_changed_archived_and_removed(agentd: Agentd) -> None:
    made = ("sessions", "create", "life", "--title", "A life", "--label", "a=1", "--parallel", "3", "--timeout", "2h")
    (view,) = agentd.json(*made)["data"]
    assert (view["title"], view["labels"]) == ("A life", {"a": "1"})
    assert (view["policy"]["max_parallel"], view["policy"]["timeout_s"]) == (3, 7200)
    assert b"life" in agentd(*made, code=1).stderr

    edit = (
        "sessions",
        "edit",
        "life",
        "--title",
        "",
        "--label",
        "b=2",
        "--remove-label",
        "a",
        "--timeout",
        "0",
        "--tasks-kept",
        "7",
        "--pinned",
    )
    (view,) = agentd.json(*edit)["data"]
    assert (view["title"], view["labels"]) == (None, {"b": "2"})
    assert (view["policy"]["timeout_s"], view["policy"]["pinned"], view["policy"]["max_parallel"]) == (None, True, 3)
    assert view["policy"]["tasks_kept"] == 7
    assert b"say what to change" in agentd("sessions", "edit", "life", code=2).stderr

    def listed(*args: str) -> bool:
        return "life" in agentd.text("sessions", "list", "-o", "name", *args).split()

    assert listed()
    assert listed("--label", "b=2")
    assert not listed("--label", "b=3")
    agentd("sessions", "archive", "life")
    assert (listed(), listed("--archived", "yes"), listed("--archived", "any")) == (False, True, True)
    agentd("sessions", "archive", "--undo", "life")
    assert listed()
    assert agentd.text("sessions", "rm", "life") == "life\n"
    assert not listed("--archived", "any")
    assert not (agentd.data_dir / "sessions/life").exists()


def test_an_active_session_is_removed_by_force_only(agentd: Agentd) -> None:
    agentd("submit", "-s", "active", "sleep", "60")
    assert b"force" in agentd("rm", "active", code=1).stderr
    agentd("rm", "--force", "active")
    agentd("show", "active", code=4)


def test_all_tasks_of_a_session_are_cancelled(agentd: Agentd) -> None:
    for _ in range(3):
        agentd("submit", "-s", "cancel-all", "sleep", "60")
    assert len(agentd.json("sessions", "cancel", "cancel-all")["data"]) == 3
    until(lambda: {t["state"] for t in agentd.json("ls", "-s", "cancel-all")["data"]} == {"cancelled"})
    assert {t["cause"]["code"] for t in agentd.json("ls", "-s", "cancel-all")["data"]} == {"session_cancelled"}


def test_history_has_the_finished_tasks(agentd: Agentd) -> None:
    ids = [agentd.text("submit", "-s", "past", command).strip() for command in ("true", "false", "true")]
    agentd("wait", *ids, code=1)
    assert agentd.text("sessions", "history", "past", "-o", "name").split() == ids[::-1]
    assert agentd.text("sessions", "history", "past", "--state", "failed", "-o", "name").split() == [ids[1]]
    page = agentd.json("sessions", "history", "past", "-n", "2")
    rest = agentd.json("sessions", "history", "past", "--cursor", page["next"])
    assert [task["task_id"] for task in page["data"] + rest["data"]] == ids[::-1]


def test_a_retry_is_a_new_task(agentd: Agentd) -> None:
    agentd("run", "-s", "again", "false", code=1)
    (old,) = agentd.json("ls", "-s", "again")["data"]
    (new,) = agentd.json("retry", old["task_id"])["data"]
    assert (new["retry_of"], new["trigger"]["type"]) == (old["task_id"], "retry")
    agentd("wait", new["task_id"], code=1)


def test_a_key_makes_one_task_of_two_calls(agentd: Agentd) -> None:
    first, second = (agentd.text("submit", "-s", "keyed", "--key", "k1", "true") for _ in range(2))
    assert first == second
    assert agentd("submit", "-s", "keyed", "--key", "k1", "false", code=1).stderr


def test_what_waits_is_listed_with_its_reason(own_daemon: Agentd) -> None:
    running = own_daemon.text("submit", "-s", "waits", "sleep", "60").strip()
    behind = own_daemon.text("submit", "-s", "waits", "--needs", running, "true").strip()
    later = own_daemon.text("submit", "-s", "waits", "--not-before", "1h", "true").strip()
    rows = {row["task_id"]: row for row in own_daemon.json("queue")["data"]}
    assert {behind, later} <= set(rows)
    assert rows[behind]["reason"]
    assert behind in own_daemon.text("queue")
    own_daemon("sessions", "cancel", "waits")
    assert own_daemon.json("show", later)["state"] == "cancelled"


def test_workers_are_listed_restarted_and_scaled(own_daemon: Agentd) -> None:
    workers = until(lambda: own_daemon.json("workers", "list")["data"])
    one = workers[0]["worker_id"]
    own_daemon("workers", "restart", one)
    assert own_daemon.json("workers", "scale", "--min", "1", "--max", "3")["max"] == 3
    assert "max" in own_daemon.text("workers", "scale", "--max", "4")
    own_daemon("workers", "restart", "bogus", code=4)


def test_events_of_a_session_are_told_in_order(agentd: Agentd) -> None:
    agentd("run", "-s", "told", "true")
    events = agentd.json("events", "told")["data"]
    assert [event["seq"] for event in events] == list(range(events[0]["seq"], events[0]["seq"] + len(events)))
    types = [event["type"] for event in events]
    assert types[:2] == ["session.created", "task.created"]
    assert types[-1] == "task.finished"
    lines = agentd.text("events", "told", "-o", "jsonl").splitlines()
    journal = (agentd.data_dir / "sessions/told/history/events-000001.jsonl").read_text().splitlines()
    assert lines == [line for line in journal if '"type":' in line]
    after = agentd.json("events", "told", "--after", str(events[1]["seq"]), "--type", "task.finished")["data"]
    assert [event["type"] for event in after] == ["task.finished"]
    assert "task.finished" in agentd.text("events", "told")


def test_events_are_followed_over_all_sessions(agentd: Agentd) -> None:
    until(lambda: followers(agentd) == 0)  # those of other tests have left
    with agentd.popen("events", "-f", "-o", "jsonl", stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            seen: list[str] = []
            submitted = False
            while "task.finished" not in seen:
                if not submitted:
                    until(lambda: followers(agentd) > 0)
                    agentd("run", "-s", "followed", "true")
                    submitted = True
                event = json.loads(process.stdout.readline())
                if event.get("session_id") == "followed":
                    seen.append(event["type"])
        finally:
            process.kill()
    assert seen[:2] == ["session.created", "task.created"]
    assert "task.started" in seen
    assert "followed" in agentd.text("events")


def followers(agentd: Agentd) -> int:
    """Event streams that are open at the daemon: who has only connected may yet miss what happens."""
    bearer = {"Authorization": f"Bearer {agentd.token}"}
    metrics = urllib.request.Request(f"{agentd.agent['url']}/metrics", headers=bearer)
    with urllib.request.urlopen(metrics, timeout=PATIENCE_S) as answer:
        return open_streams(answer.read().decode())


def test_cleanup_says_what_would_go(agentd: Agentd) -> None:
    report = agentd.json("cleanup", "--dry-run")
    assert report["dry_run"] is True
    assert "would remove" in agentd.text("cleanup", "--dry-run")


def test_a_running_daemon_checks_itself(agentd: Agentd) -> None:
    report = agentd.json("check")
    assert report["findings"] == []
    assert b"all is well" in agentd("check").stderr
    assert b"stop it to repair" in agentd("check", "--repair", code=2).stderr


def test_without_a_daemon_the_directory_is_checked_and_repaired(own_daemon: Agentd) -> None:
    own_daemon("run", "-s", "checked", "true")
    own_daemon.end()
    assert own_daemon.json("check")["sessions"] == 1
    snapshot = own_daemon.data_dir / "sessions/checked/tasks.json"
    good = json.loads(snapshot.read_bytes())
    snapshot.write_text("{}")
    assert own_daemon.json("check", code=1)["findings"]
    assert b"agentd check --repair" in own_daemon("check", code=1).stderr
    assert b"agentd check --repair" in own_daemon("check", "--data-dir", own_daemon.data_dir.name, code=1).stderr
    assert own_daemon.json("check", "--repair")["findings"]
    assert own_daemon.json("check")["findings"] == []
    assert json.loads(snapshot.read_bytes())["tasks"] == good["tasks"]


def test_a_second_daemon_is_refused_and_told_who_is_there(agentd: Agentd) -> None:
    done = agentd("serve", "--port", "0", code=2)
    assert str(agentd.agent["pid"]).encode() in done.stderr
    assert agentd.agent["url"].encode() in done.stderr


def test_a_wrong_setting_is_named(no_daemon: Agentd) -> None:
    done = no_daemon("serve", "--host", "0.0.0.0", code=2)
    assert b"allow_remote" in done.stderr


def test_tokens_have_roles_and_are_revoked(agentd: Agentd) -> None:
    token = agentd.text("token", "create", "reader", "--role", "viewer").strip()
    viewer = {"AGENTD_TOKEN": token, "AGENTD_URL": agentd.agent["url"], "AGENTD_DATA_DIR": ""}
    until(lambda: agentd("ls", code=None, **viewer).returncode == 0)
    assert b"viewer" in agentd("submit", "true", code=2, **viewer).stderr
    listed = agentd("token", "list", "-o", "json").stdout
    assert b"reader" in listed
    assert b"sha256" not in listed
    assert token.encode() not in listed
    agentd("token", "revoke", "reader")
    until(lambda: agentd("ls", code=None, **viewer).returncode == 2)
    agentd("token", "revoke", "reader", code=4)


def test_status_is_the_daemon_at_a_glance(agentd: Agentd) -> None:
    status = agentd.json("status")
    assert status["agent_id"] == agentd.agent["agent_id"]
    text = agentd.text("status")
    assert status["agent_id"] in text
    assert agentd.agent["url"] in text
    assert "free of" in text


def test_a_batch_of_lines_becomes_tasks_of_one_session(agentd: Agentd, tmp_path: Path) -> None:
    lines = tmp_path / "tasks.jsonl"
    lines.write_text("".join(f'{{"spec": {{"command": "true"}}, "name": "n{n}"}}\n' for n in range(1003)) + "\n")
    ids = agentd.text("submit", "--batch", str(lines), "--key", "k").split()
    assert len(set(ids)) == 1003
    assert agentd.text("submit", "--batch", str(lines), "--key", "k").split() == ids


def test_a_session_has_a_budget_that_can_be_changed_and_taken_away(agentd: Agentd) -> None:
    def budget() -> object:
        return agentd.json("sessions", "show", "thrifty")["policy"]["budget"]

    agentd("sessions", "create", "thrifty", "--max-cost", "1.5", "--max-wall", "2h")
    assert budget() == {"max_cost_usd": 1.5, "max_tokens": None, "max_wall_s": 7200.0}
    agentd("sessions", "edit", "thrifty", "--max-tokens", "1000", "--max-cost", "2")
    assert budget() == {"max_cost_usd": 2.0, "max_tokens": 1000, "max_wall_s": 7200.0}
    assert re.search(r"^budget +2.0 USD, 1000 tokens, 2h", agentd.text("sessions", "show", "thrifty"), re.MULTILINE)
    agentd("sessions", "edit", "thrifty", "--max-wall", "0")
    assert re.search(r"^budget .*, used up: nothing more starts$", agentd.text("show", "thrifty"), re.MULTILINE)
    agentd("sessions", "edit", "thrifty", "--no-budget")
    assert budget() is None


def test_a_script_asks_and_the_answer_comes_back(agentd: Agentd) -> None:
    with agentd.popen(
        "run", "-s", "asking", "--", "agentd", "ask", "Deploy?", "--option", "yes", "--option", "no"
    ) as run:
        until(lambda: agentd("ls", "-s", "asking", code=None).returncode == 0)
        until(lambda: agentd.json("ls", "-s", "asking")["data"][0]["awaiting"])
        (task,) = agentd.json("ls", "-s", "asking")["data"]
        assert "Deploy? [yes / no]" in agentd.text("show", task["task_id"])
        assert b"must be one of 'yes', 'no'" in agentd("answer", task["task_id"], "maybe", code=2).stderr
        agentd("answer", task["task_id"], input=b"yes\n")
        assert run.communicate(timeout=60) == (b"yes\n", b"")
    assert b"asks nothing now" in agentd("answer", task["task_id"], "yes", code=1).stderr


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_question_whose_asker_is_ended_is_taken_back(agentd: Agentd, sent: signal.Signals, code: int) -> None:
    task_id = agentd.text("submit", "-s", f"gives-up-{code}", "sleep", "60").strip()
    until(lambda: agentd.json("show", task_id)["state"] == "running")
    with agentd.popen("ask", "--task", task_id, "Deploy?") as asker:
        until(lambda: agentd.json("show", task_id)["awaiting"])
        asker.send_signal(sent)
        assert asker.wait(60) == code
    assert agentd.json("show", task_id)["awaiting"] is None
    agentd("cancel", task_id)
