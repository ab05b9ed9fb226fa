"""Results as tables, json, jsonl and names."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import pytest

from agentd.model.requests import SessionView
from agentd.model.task import Task
from tests.cli.daemon_process import Agentd


@pytest.fixture(scope="module")
def three(shared_daemon: Agentd) -> list[str]:
    """Three ended tasks of the session `three`, newest first."""
    ids = [shared_daemon.text("submit", "-s", "three", "--name", f"n{i}", "true").strip() for i in range(3)]
    shared_daemon("wait", *ids)
    return ids[::-1]


def test_a_list_is_a_page_as_the_api_has_it(agentd: Agentd, three: list[str]) -> None:
    page = agentd.json("ls", "-s", "three")
    assert set(page) == {"data", "next"}
    assert page["next"] is None
    assert [task.task_id for task in msgspec.convert(page["data"], list[Task])] == three


def test_jsonl_is_one_object_a_line(agentd: Agentd, three: list[str]) -> None:
    lines = agentd.text("ls", "-s", "three", "-o", "jsonl").splitlines()
    assert [json.loads(line)["task_id"] for line in lines] == three


def test_names_are_ids_for_the_next_command(agentd: Agentd, three: list[str]) -> None:
    ids = agentd.text("ls", "-s", "three", "-o", "name").split()
    assert ids == three
    assert agentd.text("wait", "-o", "name", *ids).split() == ids


def test_a_table_has_a_header_unless_it_is_not_wanted(agentd: Agentd, three: list[str]) -> None:
    header, *rows = agentd.text("ls", "-s", "three").splitlines()
    assert header.split() == ["ID", "SESSION", "STATE", "CAUSE", "CREATED", "TOOK", "WHAT"]
    assert [row.split()[0] for row in rows] == three
    without = agentd.text("ls", "-s", "three", "--no-headers").splitlines()
    assert [row.split() for row in without] == [row.split() for row in rows]


def test_shared_options_stand_before_or_behind_the_command(agentd: Agentd, three: list[str]) -> None:
    before = agentd.text("-o", "name", "ls", "-s", "three")
    assert (
        before
        == agentd.text("ls", "-s", "three", "-o", "name")
        == agentd.text("-o", "json", "ls", "-o", "name", "-s", "three")
    )
    home = agentd.home
    elsewhere = ("--data-dir", str(home / "data"), "sessions", "list", "-o", "name")
    assert "three" in agentd.text(*elsewhere, AGENTD_DATA_DIR="/nowhere").split()


def test_a_long_list_is_cut_and_says_so(agentd: Agentd, three: list[str]) -> None:
    done = agentd("ls", "-s", "three", "-n", "2", "-o", "name")
    assert done.stdout.decode().split() == three[:2]
    assert done.stderr == b""
    assert b"the newest 2 of more; --all" in agentd("ls", "-s", "three", "-n", "2").stderr
    assert agentd.json("ls", "-s", "three", "-n", "2")["next"]
    assert b"more" not in agentd("ls", "-s", "three", "-n", "3").stderr


def test_lists_are_filtered(agentd: Agentd, three: list[str]) -> None:
    def names(*args: str) -> list[str]:
        return agentd.text("ls", "-s", "three", "-o", "name", *args).split()

    assert names("-q", "n1") == [three[1]]
    assert names("--state", "completed", "--state", "failed") == three
    assert names("--state", "running") == []
    assert names("--since", "1h") == three
    assert names("--since", "2999-01-01T00:00:00Z") == []
    assert names("--cause", "ok", "--kind", "shell", "--queue", "default") == three
    assert names("--label", "none") == []


def test_an_empty_list_says_so_beside_the_data(agentd: Agentd) -> None:
    agentd("sessions", "create", "empty")
    done = agentd("ls", "-s", "empty")
    assert (done.stdout, done.stderr) == (b"", b"agentd: no tasks\n")
    assert agentd.json("ls", "-s", "empty") == {"data": [], "next": None}


def test_a_session_is_shown_with_its_tasks(agentd: Agentd, three: list[str]) -> None:
    view = msgspec.convert(agentd.json("show", "three"), SessionView)
    assert isinstance(view.tasks, tuple)
    assert {task.task_id for task in view.tasks} == set(three)
    text = agentd.text("show", "three")
    assert "3 completed" in text
    assert all(task_id in text for task_id in three)


def test_a_task_is_shown_with_its_cause_and_attempts(agentd: Agentd) -> None:
    agentd("run", "-s", "shown", "--label", "a=b", "--", "sh", "-c", "exit 3", code=3)
    (task,) = agentd.json("ls", "-s", "shown")["data"]
    text = agentd.text("show", task["task_id"])
    assert "(exit_code)" in text
    assert "a=b" in text
    assert "sh -c 'exit 3'" in text
    assert "ATTEMPT" in text
    assert agentd.json("show", task["task_id"]) == task


def test_what_a_task_is_called_cannot_steer_the_terminal(agentd: Agentd) -> None:
    agentd("submit", "-s", "evil", "--name", "\x1b]0;title\x07\u202e\r\nfake", "true")
    for args in (("ls", "-s", "evil"), ("show", "evil"), ("queue",)):
        out = agentd.text(*args)
        assert not set(out) & {"\x1b", "\x07", "\r", "\u202e"}
    assert r"\x1b]0;title\x07\u202e\r\nfake" in agentd.text("ls", "-s", "evil")
    assert agentd.json("ls", "-s", "evil")["data"][0]["name"].startswith("\x1b]0;")


def test_a_locale_without_utf_8_changes_nothing(agentd: Agentd) -> None:
    agentd("run", "-s", "utf-8", "--name", "ä…", "true", PYTHONUTF8="0", LC_ALL="C")
    assert "ä…" in agentd.text("ls", "-s", "utf-8", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")


def test_client_commands_load_no_server_code(agentd: Agentd) -> None:
    program = (
        "import sys; sys.argv = ['agentd', 'ls']\n"
        "from agentd.cli.main import main\n"
        "try: main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=agentd.env, cwd=agentd.home, capture_output=True, timeout=60
    )
    loaded = set(done.stderr.decode().split())
    assert done.returncode == 0
    assert "agentd.client.api" in loaded
    assert (
        not {"aiohttp.web", "structlog", "prometheus_client", "agentd.service", "agentd.store.store", "yaml"} & loaded
    )


def test_help_loads_no_client() -> None:
    program = "import sys, agentd.cli.main as m\ntry: m.cli(['--help'])\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert b"run " in done.stdout
    assert not {"aiohttp", "agentd.client"} & set(done.stderr.decode().split())
