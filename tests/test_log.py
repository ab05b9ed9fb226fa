"""The daemon's log: its form, and what it never shows."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from agentd.config import Log
from agentd.log import BLOT, blot, configure, happened
from agentd.model.events import TaskFinished, TaskProgress, WorkerLost
from agentd.model.task import Cause, CauseCode, State

pytestmark = pytest.mark.usefixtures("logging_as_before")

AT = "2026-01-02T03:04:05.000006Z"


class Captured:
    """A log that goes to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]


@pytest.fixture
def captured(tmp_path: Path) -> Iterator[Captured]:
    captured = Captured(tmp_path / "log")
    yield captured
    os.close(captured.fd)


def test_a_line_is_json_with_time_level_event_and_ids(captured: Captured) -> None:
    configure(Log(), captured.fd)
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger().info("http.request", status=200, path=Path("/tasks"))
    (line,) = captured.lines()
    assert list(line)[:3] == ["at", "level", "event"]
    assert line | {"at": AT} == {
        "at": AT, "level": "info", "event": "http.request", "request_id": "r1", "status": 200, "path": "/tasks"
    }  # fmt: skip
    assert len(line["at"]) == len(AT)
    assert captured.path.read_bytes().endswith(b"}\n")


def test_lines_under_the_level_are_not_written(captured: Captured) -> None:
    configure(Log(level="warning"), captured.fd)
    structlog.get_logger().info("task.started")
    structlog.get_logger().warning("worker.lost")
    assert [line["event"] for line in captured.lines()] == ["worker.lost"]


def test_events_are_logged_under_their_own_names(captured: Captured) -> None:
    configure(Log(level="debug"), captured.fd)
    cause = Cause(code=CauseCode.EXIT_CODE, message="exit 3", exit_code=3)
    happened(TaskFinished(at=AT, task_id="t", state=State.FAILED, cause=cause, result="private"), session_id="s")
    happened(TaskProgress(at=AT, task_id="t", progress=40.0, message="private"), session_id="s")
    happened(WorkerLost(at=AT, worker_id="w1", pid=7, reason="killed by signal 9"))
    finished, progress, lost = captured.lines()
    assert finished | {"at": AT} == {
        "at": AT, "level": "info", "event": "task.finished", "task_id": "t", "state": "failed", "cause": "exit_code",
        "session_id": "s",
    }  # fmt: skip
    assert (progress["level"], progress["progress"]) == ("debug", 40.0)
    assert (lost["level"], lost["event"], lost["reason"]) == ("warning", "worker.lost", "killed by signal 9")
    assert "private" not in captured.path.read_text()


def test_an_exception_is_one_line_with_its_traceback(captured: Captured) -> None:
    configure(Log(), captured.fd)
    try:
        raise RuntimeError("token=hunter2")
    except RuntimeError:
        structlog.get_logger().exception("http.failed")
    (line,) = captured.lines()
    assert line["level"] == "error"
    assert "RuntimeError: token=" in line["exception"]
    assert "hunter2" not in line["exception"]


def test_what_libraries_log_comes_the_same_way(captured: Captured) -> None:
    configure(Log(), captured.fd)
    logging.getLogger("aiohttp.server").warning("odd %s", "request")
    logging.getLogger("asyncio").info("too small to tell")
    (line,) = captured.lines()
    assert (line["event"], line["logger"], line["message"]) == ("library.said", "aiohttp.server", "odd request")


@pytest.mark.parametrize(
    "line",
    [
        {"token": "hunter2"},
        {"AGENTD_TOKEN": "hunter2"},
        {"headers": {"Authorization": "Bearer hunter2", "Cookie": "a=hunter2"}},
        {"api-key": "hunter2", "apiKey": "hunter2", "passwords": ["hunter2"]},
        {"env": {"ANYTHING": "hunter2"}},
        {"message": "Authorization: Bearer hunter2"},
        {"message": "bad request GET /x?token=hunter2&y=1"},
        {"message": "{'AGENTD_TOKEN': 'hunter2'}"},
        {"message": 'curl -d password="hunter2"'},
        {"deep": [{"deeper": ({"secret": "hunter2"},)}]},
        {"deep": {"a": {"b": {"c": {"d": {"e": "hunter2"}}}}}},
        {"error": ValueError("token: hunter2")},
    ],
)
def test_secrets_are_blotted_out(line: dict[str, Any]) -> None:
    assert "hunter2" not in str(blot(None, "info", line))


def test_a_token_is_blotted_out_wherever_it_stands() -> None:
    line = {"message": f"refused task-{'a' * 14}-{'0' * 64}, and agentd_{'x' * 43}"}
    assert blot(None, "info", line) == {"message": f"refused {BLOT}, and {BLOT}"}


def test_what_is_not_secret_stays_as_it_is() -> None:
    line = {
        "event": "task.started",
        "tokens_used": 7,
        "environment": "staging",
        "path": "/token",
        "none": None,
        "on": True,
    }
    assert blot(None, "info", dict(line)) == line
    assert BLOT not in str(blot(None, "info", {"message": "the token is in the file `token`"}))
