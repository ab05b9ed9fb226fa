"""Agents under a real daemon, with CLIs of shell lines that do what real ones do rarely: what the task says of it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from benchlib.processes import alive, until
from tests.daemon.conftest import MakeDaemon
from tests.daemon.harness import RealDaemon
from tests.drivers.test_agent import ANSWER, INIT, RESULT, says

#: A tool in a session of its own, as the CLIs start them; its pid is in `tool`.
TOOL = "setsid sh -c 'echo $$ > tool.new; mv tool.new tool; exec sleep 1000' &\nwhile :; do sleep 0.1; done"
LIMITED = '{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1900000000}}'
REFUSED = json.dumps({**json.loads(RESULT), "is_error": True, "api_error_status": 429, "result": "limit reached"})


class Agents:
    """A daemon whose PATH begins with a directory of the test's own."""

    def __init__(self, root: Path, daemon: RealDaemon) -> None:
        self.bin, self.daemon = root / "bin", daemon
        self.workspace = daemon.data_dir / "sessions/s/workspace"

    def program(self, script: str) -> None:
        """What `claude` is from now on."""
        path = self.bin / "claude"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)

    def submit(self, **more: Any) -> str:
        spec = {"agent": "claude", "prompt": "do it", **more}
        answer = self.daemon.request("POST", "/tasks", {"kind": "agent", "session_id": "s", "spec": spec})
        assert answer.status == 201, answer.body
        return str(answer.json["task_id"])

    def run(self, **more: Any) -> dict[str, Any]:
        return self.daemon.wait(self.submit(**more))

    def with_tool(self) -> tuple[str, int, int]:
        """A task in the middle of a tool; the pids of its driver and of the tool."""
        task_id = self.submit()
        tool = self.workspace / "tool"
        until(tool.exists)
        pid = until(lambda: self.daemon.task(task_id)["attempts"][-1]["pid"])
        return task_id, pid, int(tool.read_text())


@pytest.fixture
def agents(tmp_path: Path, make_daemon: MakeDaemon, monkeypatch: pytest.MonkeyPatch) -> Agents:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return Agents(tmp_path, make_daemon(workers={"grace_s": 3.0}).start())


def cause(task: dict[str, Any]) -> tuple[str, str]:
    return task["state"], task["cause"]["code"]


def test_each_bad_end_has_its_cause(agents: Agents) -> None:
    agents.program(says(INIT, ANSWER))
    assert cause(agents.run()) == ("failed", "no_result")
    agents.program(says(INIT, "garbage") + "\nexit 7")
    task = agents.run()
    assert (*cause(task), task["cause"]["exit_code"]) == ("failed", "exit_code", 7)
    agents.program(says(INIT, LIMITED, REFUSED) + "\nexit 1")
    task = agents.run()
    assert (*cause(task), task["cause"]["detail"]) == ("failed", "agent_error", "rate_limit")
    assert task["cause"]["retry_at"] == "2030-03-17T17:46:40.000000Z"
    agents.program(says(INIT, ANSWER) + "\nwhile :; do :; done")
    task = agents.run(limits={"cpu_s": 1})
    assert (*cause(task), task["cause"]["signal"]) == ("failed", "signal", signal.SIGXCPU)


def test_a_limit_that_nobody_can_hold_here_is_refused_with_what_helps(agents: Agents) -> None:
    answer = agents.daemon.request(
        "POST",
        "/tasks",
        {"kind": "agent", "spec": {"agent": "claude", "prompt": "p", "limits": {"memory_bytes": 1 << 30}}},
    )
    if answer.status == 201:
        pytest.skip("the daemon has cgroups here")
    assert answer.status == 422
    [error] = answer.json["errors"]
    assert error["field"] == "spec.limits.memory_bytes"
    assert "Delegate=yes" in error["message"]


def test_a_killed_driver_takes_its_cli_and_its_tools_along(agents: Agents) -> None:
    agents.program(says(INIT, ANSWER) + "\n" + TOOL)
    task_id, driver, tool = agents.with_tool()
    os.kill(driver, signal.SIGKILL)
    task = agents.daemon.wait(task_id)
    assert (*cause(task), task["cause"]["signal"]) == ("failed", "signal", signal.SIGKILL)
    assert not alive(tool)


def test_one_that_says_success_when_it_is_cancelled_is_cancelled(agents: Agents) -> None:
    agents.program(f"trap 'echo \"$result\"; exit 0' TERM\nresult='{RESULT}'\n{says(INIT, ANSWER)}\n{TOOL}")
    task_id, _, tool = agents.with_tool()
    assert agents.daemon.request("POST", f"/tasks/{task_id}/cancel").status == 202
    task = agents.daemon.wait(task_id)
    assert cause(task) == ("cancelled", "cancelled_by_user")
    assert task["result"]["text"] == "done"
    assert not alive(tool)


def test_what_was_told_before_the_daemon_was_killed_is_known_after_it(agents: Agents) -> None:
    agents.program(says(INIT, ANSWER) + "\n" + TOOL)
    task_id, _, tool = agents.with_tool()
    daemon = agents.daemon
    until(lambda: (daemon.task(task_id)["attempts"][-1]["usage"] or {}).get("input_tokens"))
    until(lambda: daemon.get("/sessions/s")["conversations"])
    daemon.kill9()
    daemon.start()
    task = daemon.wait(task_id)
    assert cause(task) == ("failed", "interrupted")
    assert task["attempts"][-1]["usage"]["input_tokens"] == 3
    session = daemon.get("/sessions/s")
    assert session["usage"]["input_tokens"] == 3
    assert session["conversations"] == {"claude": "c-1"}
    until(lambda: not alive(tool))
    agents.program(f'printf "%s\\n" "$@" > arguments\n{says(INIT, RESULT)}')
    assert agents.run()["state"] == "completed"
    assert "--resume\nc-1\n" in (agents.workspace / "arguments").read_text()


def test_an_answer_to_a_stall_that_is_over_ends_nothing(agents: Agents) -> None:
    wait = "until [ -e {} ]; do sleep 0.05; done"
    lines = (says(INIT), wait.format("go"), f"echo '{ANSWER}'", wait.format("end"), f"echo '{RESULT}'")
    agents.program("\n".join(lines))
    daemon = agents.daemon
    task_id = agents.submit(stall_s=0.5)

    def asked() -> str | None:
        awaiting = daemon.task(task_id)["awaiting"]
        return awaiting and str(awaiting["ask_id"])

    def answered(ask_id: str, answer: str) -> int:
        return daemon.request("POST", f"/tasks/{task_id}/answer", {"ask_id": ask_id, "answer": answer}).status

    first = str(until(asked))
    (agents.workspace / "go").touch()
    until(lambda: (daemon.task(task_id)["attempts"][-1]["usage"] or {}).get("input_tokens"))  # it said a word
    second = str(until(lambda: (now := asked()) != first and now))
    assert answered(first, "end") == 409
    until(lambda: answered(asked() or second, "wait") == 200)
    (agents.workspace / "end").touch()
    assert daemon.wait(task_id)["state"] == "completed"
