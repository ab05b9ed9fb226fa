"""What a task can do with its own token, and what it cannot: the rules of its session hold for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentd.config import Limits
from agentd.engines.local import system
from agentd.kinds.sandbox import options
from benchlib.processes import every_pid
from tests.daemon.harness import until
from tests.http.conftest import Serve
from tests.http.talk import Answer, Api
from tests.webui.conftest import MakeDaemon

FACTS = system.found(options)
FLOW = "steps: [{id: a, run: 'true'}]"
SECRET = "hunter2-of-the-spec"


class AsTask:
    """A running task of session `s`, that asks with its own token."""

    def __init__(self, api: Api, task: dict[str, Any]) -> None:
        self.task_id: str = task["task_id"]
        self._api = api
        self._token = api.daemon.service.task_tokens.issue(self.task_id)

    async def ask(self, method: str, path: str, body: Any = None) -> Answer:
        return await self._api.ask(method, path, body, token=self._token)

    async def submits(self, command: str = "sleep 60") -> Answer:
        return await self.ask("POST", "/tasks", {"spec": {"command": command}})


async def running(api: Api) -> AsTask:
    return AsTask(api, await api.start("sleep 60", session_id="s"))


async def test_a_task_answers_no_question_not_even_its_own(api: Api) -> None:
    task = await running(api)
    own = f"/tasks/{task.task_id}"
    assert (await task.ask("POST", f"{own}/ask", {"ask_id": "q", "prompt": "Deploy?"})).status == 202
    assert (await task.ask("POST", f"{own}/answer", {"answer": "yes", "ask_id": "q"})).status == 403
    assert (await api.get(own))["awaiting"]["ask_id"] == "q"


async def test_a_task_types_into_no_other_and_changes_no_session_budget_or_run(api: Api) -> None:
    task = await running(api)
    more = {"policy": {"budget": {"max_cost_usd": 1000}}}
    for method, path, body in (
        ("PATCH", "/sessions/s", more),
        ("POST", "/sessions", {"session_id": "rich", **more}),
        ("DELETE", "/sessions/s", None),
        ("POST", "/sessions/s/cancel", None),
        ("POST", f"/tasks/{task.task_id}/input", {"data": "y"}),
        ("POST", f"/tasks/{task.task_id}/terminal", {"rows": 1, "columns": 1}),
        ("POST", "/sessions/s/workflow", {"source": FLOW}),
        ("GET", "/sessions/s/export", None),
    ):
        assert (await task.ask(method, path, body)).status == 403, (method, path)
    assert [each["session_id"] for each in (await api.get("/sessions"))["data"]] == ["s"]


async def test_a_task_submits_into_its_own_session_whatever_it_names(api: Api) -> None:
    task = await running(api)
    await api.ask("POST", "/sessions", {"session_id": "other"})
    for path, body in (
        ("/tasks", {"spec": {"command": "true"}, "session_id": "other"}),
        ("/tasks", [{"spec": {"command": "true"}}, {"spec": {"command": "true"}, "session_id": "other"}]),
        ("/tasks/shell", {"command": "true", "session_id": "new"}),
        ("/tasks/docker", {"operation": "stop", "id": "x", "session_id": "other"}),
        ("/sessions/other/tasks", {"spec": {"command": "true"}}),
    ):
        assert (await task.ask("POST", path, body)).status == 403, path
    assert (await task.submits("true")).json["session_id"] == "s"
    assert (await api.get("/sessions/other/tasks"))["data"] == []


async def test_neither_by_sub_tasks_nor_by_retries_a_task_goes_beyond_its_depth_and_number(serve: Serve) -> None:
    api = await serve(Limits(subtask_depth=1, live_subtasks=2))
    await api.ask("POST", "/sessions", {"session_id": "s", "policy": {"max_parallel": 4}})
    ended = await api.run("true", session_id="s")
    top = await running(api)
    child = (await top.submits()).json
    assert (child["parent_id"], child["depth"]) == (top.task_id, 1)
    again = await top.ask("POST", f"/tasks/{ended['task_id']}/retry")
    assert (again.json["parent_id"], again.json["depth"]) == (top.task_id, 1), "a retry is a sub-task as any other"
    await api.get(f"/tasks/{again.json['task_id']}/wait?timeout_s=60")
    below = AsTask(api, child)
    await api.daemon.service.wait(child["task_id"], 0)
    async with api.stream("/sessions/s/events") as events:
        while (event := await events.next()) is not None:
            if event.type == "task.started" and event.json["task_id"] == child["task_id"]:
                break
    for path, body in (
        ("/tasks", {"spec": {"command": "true"}}),
        ("/tasks", [{"spec": {"command": "true"}}]),
        (f"/tasks/{ended['task_id']}/retry", None),
    ):
        assert (await below.ask("POST", path, body)).code == "queue_full", path
    assert (await top.submits()).status == 201
    for answer in (await top.submits(), await top.ask("POST", f"/tasks/{ended['task_id']}/retry")):
        assert answer.code == "queue_full"


async def test_a_task_that_cancels_the_one_that_submitted_it_ends_with_it(api: Api) -> None:
    """It may: the boundary is the session. It wins nothing by it, for a task is cancelled with all below it."""
    await api.ask("POST", "/sessions", {"session_id": "s", "policy": {"max_parallel": 4}})
    top = await running(api)
    child = (await top.submits()).json
    async with api.stream("/sessions/s/events") as events:
        while (event := await events.next()) is not None:
            if event.type == "task.started" and event.json["task_id"] == child["task_id"]:
                break
    below = AsTask(api, child)
    assert (await below.ask("POST", f"/tasks/{top.task_id}/cancel")).status == 202
    for task_id in (top.task_id, child["task_id"]):
        assert (await api.get(f"/tasks/{task_id}/wait?timeout_s=60"))["state"] == "cancelled"
    assert (await below.submits()).status == 401


async def test_of_an_answer_for_another_question_nothing_comes(api: Api) -> None:
    task = await running(api)
    path = f"/tasks/{task.task_id}"
    for ask_id in ("first", "second"):
        assert (await task.ask("POST", f"{path}/ask", {"ask_id": ask_id, "prompt": ask_id})).status == 202
    late = await api.ask("POST", f"{path}/answer", {"answer": "yes", "ask_id": "first"})
    assert late.code == "invalid_transition"
    shown = await api.get(path)
    assert (shown["awaiting"]["ask_id"], shown["answered"]) == ("second", None)


@pytest.mark.parametrize("sandbox", [None, pytest.param("bubblewrap", marks=pytest.mark.skipif(
    not FACTS.sandbox, reason=FACTS.sandbox_problem,
))])  # fmt: skip
def test_what_a_task_is_given_in_its_environment_is_in_no_argument_log_or_metric(
    make_daemon: MakeDaemon, sandbox: str | None
) -> None:
    daemon = make_daemon(log={"level": "debug"}).start()
    spec = {"command": "echo up; exec sleep 60", "env": {"KEY": SECRET}, "sandbox": sandbox}
    task_id = daemon.shell("s", "", spec=spec)["task_id"]
    until(lambda: b"up" in daemon.request("GET", f"/tasks/{task_id}/output").body, 60)
    arguments = b"".join(_arguments(pid) for pid in every_pid())
    assert b"sleep\x0060" in arguments and SECRET.encode() not in arguments
    assert SECRET.encode() not in daemon.request("GET", "/metrics").body
    daemon.request("POST", f"/tasks/{task_id}/cancel")
    daemon.wait(task_id)
    assert daemon.stop() == 0 and SECRET not in daemon.log_text()


def _arguments(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
