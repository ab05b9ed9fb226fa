"""The commands beside each action do what the button does, run by a real shell against a real daemon."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.harness import RealDaemon, until
from webui.commands import as_agentd, as_curl, submit_command
from webui.upstream import Agent

from .viewer import RealViewer

#: Runs a line with `sh`, and gives what it printed.
Run = Callable[[str], str]


def commands_in(page: str) -> dict[str, list[str]]:
    """The commands of a page by the name of what they do."""
    found: dict[str, list[str]] = {}
    for name, lines in re.findall(r'<div class="copy"><strong>([^<]+)</strong>\n(.*?)</div>', page, re.DOTALL):
        found[name] = [html.unescape(line) for line in re.findall(r"<pre[^>]*>([^<]*)</pre>", lines)]
    return found


@pytest.fixture
def run(daemon: RealDaemon, tmp_path: Path) -> Run:
    """Runs a line with `sh`, which finds curl and agentd, and the token in its environment."""
    programs = tmp_path / "bin"
    programs.mkdir()
    agentd = programs / "agentd"
    agentd.write_text(f'#!/bin/sh\nexec {sys.executable} -m agentd.cli.main "$@"\n')
    agentd.chmod(0o755)
    root = Path(__file__).parents[2]

    def run(line: str) -> str:
        environ = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "AGENTD_TOKEN": daemon.token}
        environ["PYTHONPATH"] = str(root)
        done = subprocess.run(["sh", "-c", line], capture_output=True, cwd=tmp_path, env=environ, timeout=30)
        assert done.returncode == 0, (line, done.stderr)
        return done.stdout.decode()

    return run


@pytest.mark.parametrize("which", [0, 1], ids=["curl", "agentd"])
def test_cancel_and_retry_are_done_by_their_commands(
    viewer: RealViewer, daemon: RealDaemon, run: Run, which: int
) -> None:
    task = daemon.shell("build", "sleep 100")
    daemon.state(task["task_id"], "running")
    at = f"/a/one/s/build/t/{task['task_id']}"
    line = commands_in(viewer.html(at))["Cancel"][which]
    assert daemon.token not in line
    run(line)
    assert daemon.wait(task["task_id"])["state"] == "cancelled"
    run(commands_in(viewer.html(at))["Retry"][which])
    assert [each["retry_of"] for each in daemon.get("/sessions/build/tasks?state=running&state=queued")["data"]] == [
        task["task_id"]
    ]


@pytest.mark.parametrize("which", [0, 1], ids=["curl", "agentd"])
def test_a_session_is_changed_and_deleted_by_its_commands(
    viewer: RealViewer, daemon: RealDaemon, run: Run, which: int
) -> None:
    daemon.wait(daemon.shell("build", "true")["task_id"])
    title = 'it\'s "$HOME" `id` $(id) \\ \t; & <b>'
    assert daemon.request("PATCH", "/sessions/build", {"title": title, "labels": {"team": "a b"}}).status == 200
    lines = commands_in(viewer.html("/a/one/s/build"))
    daemon.request("PATCH", "/sessions/build", {"title": "other", "labels": {}})
    run(lines["Edit"][which])
    edited = daemon.get("/sessions/build")
    assert (edited["title"], edited["labels"]) == (title, {"team": "a b"})
    run(lines["New task"][which])
    run(lines["Cancel all tasks"][which])
    run(lines["Archive"][which])
    assert daemon.get("/sessions/build")["archived"] is True
    run(commands_in(viewer.html("/a/one/s/build"))["Bring back"][which])
    assert daemon.get("/sessions/build")["archived"] is False
    run(lines["Delete"][which])
    assert daemon.request("GET", "/sessions/build").status == 404


@pytest.mark.parametrize("which", [0, 1], ids=["curl", "agentd"])
def test_a_question_is_answered_and_a_line_sent_by_their_commands(
    viewer: RealViewer, daemon: RealDaemon, run: Run, which: int
) -> None:
    spec = {"command": "read line; echo heard $line", "interactive": True}
    task = daemon.request("POST", "/tasks", {"kind": "shell", "spec": spec, "session_id": "build"}).json
    daemon.state(task["task_id"], "running")
    question = {"ask_id": "q1", "prompt": "Deploy?", "options": ["it's fine", "no"]}
    assert daemon.request("POST", f"/tasks/{task['task_id']}/ask", question).status == 202
    lines = commands_in(viewer.html(f"/a/one/s/build/t/{task['task_id']}"))
    run(lines["Answer"][which])
    assert daemon.task(task["task_id"])["answered"]["answer"] == "it's fine"
    run(lines["Send a line"][which])
    assert daemon.wait(task["task_id"])["state"] == "completed"
    assert b"heard LINE" in daemon.request("GET", f"/tasks/{task['task_id']}/output").body


@pytest.mark.parametrize("which", [0, 1], ids=["curl", "agentd"])
def test_a_workflow_is_run_cancelled_and_resumed_by_its_commands(
    viewer: RealViewer, daemon: RealDaemon, run: Run, tmp_path: Path, which: int
) -> None:
    (tmp_path / "FILE").write_text("steps: [{id: a, run: '[ -e go ] || sleep 600'}]")
    daemon.request("POST", "/sessions", {"session_id": "build"})
    run(commands_in(viewer.html("/a/one/s/build"))["Run a workflow"][0] + " --detach")
    [started] = daemon.get("/sessions/build/workflows")["data"]
    at = f"/a/one/s/build/w/{started['run_id']}"
    assert started["run_id"] in run(commands_in(viewer.html(at))["Show"][which])
    until(lambda: daemon.get("/tasks?state=running")["data"])
    run(commands_in(viewer.html(at))["Cancel"][which])
    until(lambda: daemon.get(f"/workflows/{started['run_id']}")["state"] == "cancelled")
    (daemon.data_dir / "sessions/build/workspace/go").touch()
    lines = commands_in(viewer.html(at))
    assert "Cancel" not in lines
    run(lines["Resume"][which])
    until(lambda: daemon.get(f"/workflows/{started['run_id']}")["state"] == "completed")
    assert commands_in(viewer.html(at)).keys() == {"Show"}


def test_artifacts_go_both_ways_by_their_commands(
    viewer: RealViewer, daemon: RealDaemon, run: Run, tmp_path: Path
) -> None:
    daemon.wait(daemon.shell("build", "true")["task_id"])
    (tmp_path / "FILE").write_text("hello")
    run(commands_in(viewer.html("/a/one/s/build"))["Upload"][0])
    assert daemon.request("GET", "/sessions/build/artifacts/FILE").body == b"hello"
    (tmp_path / "FILE").unlink()
    run(commands_in(viewer.html("/a/one/s/build"))["Download"][0])
    assert (tmp_path / "FILE").read_text() == "hello"


def test_care_is_taken_by_its_commands(viewer: RealViewer, daemon: RealDaemon, run: Run) -> None:
    lines = commands_in(viewer.html("/agents"))
    for line in (*lines["Clean up"], *lines["Emergency reset"]):
        run(line)
    for line in commands_in(viewer.html("/workers"))["Scale"]:
        run(line)
        assert daemon.get("/status")["workers"]["max"] == 8
        daemon.request("POST", "/workers/scale", {"max": 5})


@pytest.mark.parametrize("which", [0, 1], ids=["curl", "agentd"])
def test_the_form_shows_the_commands_that_would_start_the_task_and_starts_none(
    viewer: RealViewer, daemon: RealDaemon, run: Run, which: int
) -> None:
    fields = {"field:spec.command": "echo \"it's\" '$HOME'\necho 2", "field:session_id": "build", "field:name": "-n"}
    fields |= {"field:labels": "a=it's", "field:timeout_s": "1.5", "field:priority": "-3", "field:retry.max": "1"}
    page = viewer.post("/new", agent="one", kind="shell", show="commands", **fields)
    assert page.status == 200
    assert daemon.get("/tasks")["data"] == []
    run(commands_in(page.body.decode())["Start this task"][which])
    [task] = daemon.get("/tasks")["data"]
    assert (task["spec"]["command"], task["name"]) == ("echo \"it's\" '$HOME'\necho 2", "-n")
    assert (task["labels"], task["timeout_s"], task["priority"]) == ({"a": "it's"}, 1.5, -3)
    assert task["retry"]["max"] == 1


def test_a_unix_socket_and_an_id_like_an_option_are_written_as_shells_and_programs_need_them() -> None:
    local = Agent(name="local", url="unix:///run/my agent.sock")
    assert as_curl(local, "GET", ["sessions", "a/b?c"], {"q": "x&y"}) == (
        "curl -sS --unix-socket '/run/my agent.sock' -H \"Authorization: Bearer $AGENTD_TOKEN\""
        " 'http://localhost/sessions/a%2Fb%3Fc?q=x%26y'"
    )
    assert as_agentd(local, ["rm"], ["-rf"]) == "agentd rm --url 'unix:///run/my agent.sock' -- -rf"
    assert submit_command(local, {"kind": "shell", "spec": {}, "invented": 1}) is None
