"""`TaskStateManager` of agentd.js in a real browser: each of its events, and nothing that is not so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Error, Page, Request, Route, expect

from tests.daemon.harness import RealDaemon, until

from .conftest import Watched
from .managing import Managed
from .viewer import RealViewer

#: What Chromium writes to its console of every answer that is an error, also of those that a page expects.
REFUSED = "Failed to load resource"
STATIC = Path(__file__).parents[2] / "webui" / "static"


@pytest.fixture(autouse=True)
def refusals_are_expected(watched: Watched) -> None:
    watched.expected.append(REFUSED)


def test_what_is_active_is_restored_when_the_page_loads(page: Page, viewer: RealViewer, daemon: RealDaemon) -> None:
    managed = Managed(page, viewer)
    assert managed.do("initialize") == []
    managed.next("noActiveTask")
    task_id = daemon.shell("build", "sleep 100")["task_id"]
    until(lambda: daemon.state(task_id, "running")["attempts"][0].get("pid"))  # or that is progress still to come
    managed = Managed(page, viewer)
    (task,) = managed.do("initialize")
    assert (task["agent"], task["task_id"], task["state"]) == ("one", task_id, "running")
    assert managed.next("taskRestored")["task_id"] == task_id
    assert managed.do("restoreActiveTask")["task_id"] == task_id
    assert {each for each, _ in managed.heard()} == {"taskRestored"}


def test_a_task_is_followed_from_its_start_through_its_progress_to_its_end(
    page: Page, viewer: RealViewer, daemon: RealDaemon
) -> None:
    managed = Managed(page, viewer, session="build")
    managed.do("initialize")
    started = managed.do("startTask", "echo hello; while [ ! -e go ]; do sleep 0.02; done")
    assert managed.next("taskStarted")["task_id"] == started["task_id"]
    assert (started["agent"], started["session_id"], started["kind"]) == ("one", "build", "shell")
    daemon.state(started["task_id"], "running")
    daemon.request("POST", f"/tasks/{started['task_id']}/progress", {"progress": 40, "phase": "half"})
    assert managed.next("taskProgress", phase="half")["progress"] == 40
    (daemon.data_dir / "sessions/build/workspace/go").touch()
    assert managed.next("taskCompleted")["state"] == "completed"
    assert managed.page.evaluate("manager.tasks") == []
    managed.do("startTask", {"kind": "shell", "spec": {"command": "exit 3"}, "name": "bad"})
    assert managed.next("taskError")["cause"]["exit_code"] == 3
    counted = managed.heard("taskStarted", "taskCompleted", "taskError")
    assert counted == []  # each was told once


def test_a_task_that_others_start_is_told_and_one_that_is_stopped_is_cancelled(
    page: Page, viewer: RealViewer, daemon: RealDaemon
) -> None:
    managed = Managed(page, viewer)
    managed.do("initialize")
    task_id = daemon.shell("build", "sleep 100")["task_id"]
    assert managed.next("taskStarted")["task_id"] == task_id
    daemon.state(task_id, "running")
    assert managed.do("stopTask", task_id)["cancel_requested_at"]
    assert managed.next("taskError", state="cancelled")["cause"]["code"] == "cancelled_by_user"
    assert managed.do("stopTask", task_id)["state"] == "cancelled"


def test_a_task_that_ended_before_the_first_look_is_told_as_ended(
    page: Page, viewer: RealViewer, daemon: RealDaemon
) -> None:
    task_id = daemon.shell("build", "true")["task_id"]
    daemon.wait(task_id)
    managed = Managed(page, viewer)
    assert managed.do("restoreActiveTask", task_id)["state"] == "completed"
    managed.next("taskCompleted")
    assert managed.do("initialize") == []
    managed.next("noActiveTask")
    status = managed.do("getTaskStatus", task_id)
    assert (status["agent"], status["state"]) == ("one", "completed")


def test_a_task_that_is_not_there_is_unknown_and_its_history_is_asked_too(
    page: Page, viewer: RealViewer, daemon: RealDaemon
) -> None:
    managed = Managed(page, viewer)
    for options in ({}, {"agent": "one"}, {"agent": "one", "session": "build"}):
        status = managed.do("getTaskStatus", "none", options)
        assert (status["state"], status["reason_code"]) == ("unknown", "task_not_found")
        assert status["since"]
    assert managed.do("getTaskStatus", "none", {"agent": "other"})["reason_code"] == "agent_not_found"
    task_id = daemon.shell("build", "true")["task_id"]
    daemon.wait(task_id)
    problem = '{"code": "task_not_found", "detail": "none"}'
    page.route(f"**/api/agents/one/tasks/{task_id}", lambda route: route.fulfill(status=404, body=problem))
    assert managed.do("getTaskStatus", task_id, {"agent": "one", "session": "build"})["state"] == "completed"


def test_a_state_of_a_newer_agent_is_told_as_it_is(page: Page, viewer: RealViewer, daemon: RealDaemon) -> None:
    managed = Managed(page, viewer)
    task = daemon.shell("build", "sleep 100")
    managed.do("initialize")
    agents = json.dumps({"data": [], "next": None, "agents": [{"agent": "one", "status": "fresh"}]})
    page.route("**/api/tasks?*", lambda route: route.fulfill(body=agents))
    page.route("**/api/agents/one/tasks/*", lambda route: route.fulfill(body=json.dumps({**task, "state": "paused"})))
    page.evaluate("manager.refresh()")
    assert managed.next("taskProgress", state="paused")["task_id"] == task["task_id"]
    assert page.evaluate("manager.tasks.map((task) => task.state)") == ["paused"]


def test_a_start_whose_answer_is_lost_is_sent_again_and_starts_one_task(
    page: Page, viewer: RealViewer, daemon: RealDaemon
) -> None:
    keys: list[str] = []

    def lose_the_first(route: Route, request: Request) -> None:
        keys.append(request.headers["idempotency-key"])
        if len(keys) == 1:
            route.fetch()  # it arrives; the answer does not
            route.abort()
        elif len(keys) == 2:
            route.fulfill(status=504, content_type="application/problem+json", body='{"code": "agent_unreachable"}')
        else:
            route.continue_()

    managed = Managed(page, viewer)
    page.route("**/api/agents/one/tasks", lose_the_first)
    started = managed.do("startTask", "true")
    assert [task["task_id"] for task in daemon.get("/tasks")["data"]] == [started["task_id"]]
    assert len(keys) == 3 and len(set(keys)) == 1
    managed.next("taskCompleted", task_id=started["task_id"])


def test_a_refusal_is_an_error_with_its_fields(page: Page, viewer: RealViewer) -> None:
    managed = Managed(page, viewer)
    for call, given, code in (
        ("startTask", [{"kind": "shell", "spec": {}}], "invalid"),
        ("startTask", ["true", {"agent": "none"}], "agent_not_found"),
        ("stopTask", ["none", {"agent": "one"}], "task_not_found"),
    ):
        caught = page.evaluate(
            """async ([call, given]) => {
              try { await manager[call](...given); } catch (error) {
                return [error instanceof AgentdError, error.code, error.message, error.errors];
              }
            }""",
            [call, given],
        )
        assert caught[:2] == [True, code]
        assert caught[2]
    with pytest.raises(Error, match="limit"):
        managed.do("getJobHistory", {"limit": 0})
    with pytest.raises(Error, match="10000"):
        managed.do("getJobHistory", {"limit": 1000, "offset": 9_500})


def test_history_is_paged_by_offset_and_filtered(page: Page, viewer: RealViewer, daemon: RealDaemon) -> None:
    ids = [daemon.shell("build", command)["task_id"] for command in ("true", "false", "true", "false", "true")]
    for task_id in ids:
        daemon.wait(task_id)
    managed = Managed(page, viewer)
    newest = ids[::-1]
    found = managed.do("getJobHistory", {"limit": 2, "offset": 1, "job_type": "shell"})
    assert ([task["task_id"] for task in found["data"]], found["more"], found["partial"]) == (newest[1:3], True, False)
    found = managed.do("getJobHistory", {"status": "failed"})
    assert ([task["task_id"] for task in found["data"]], found["more"]) == ([ids[3], ids[1]], False)
    found = managed.do("getJobHistory", {"status": ["failed", "completed"]})
    assert [task["task_id"] for task in found["data"]] == newest
    assert managed.do("getJobHistory", {"job_type": "none"})["data"] == []


def test_a_reset_ends_what_is_live_and_says_what_it_did(page: Page, viewer: RealViewer, daemon: RealDaemon) -> None:
    managed = Managed(page, viewer)
    managed.do("initialize")
    task_id = managed.do("startTask", "sleep 100")["task_id"]
    daemon.state(task_id, "running")
    assert managed.do("resetAgentState")
    assert managed.next("taskError", task_id=task_id)["state"] in ("cancelled", "failed")


def test_listeners_come_and_go_and_one_that_throws_keeps_nothing_from_others(page: Page, viewer: RealViewer) -> None:
    Managed(page, viewer)
    told = page.evaluate(
        """() => {
          const told = [];
          window.reportError = (error) => told.push(error.message);
          const off = manager.on("taskStarted", () => told.push("first"));
          manager.on("taskStarted", () => { throw new Error("thrown"); });
          const last = () => told.push("last");
          manager.on("taskStarted", last);
          manager.emit("taskStarted", {});
          off();
          manager.off("taskStarted", last);
          manager.emit("taskStarted", {});
          return told;
        }"""
    )
    assert told == ["first", "thrown", "last", "thrown"]


def test_a_page_has_one_stream_however_many_follow(page: Page, viewer: RealViewer, daemon: RealDaemon) -> None:
    streams: list[str] = []
    page.on("request", lambda request: streams.append(request.url) if "/live" in request.url else None)
    page.goto(viewer.url)
    task_id = daemon.shell("build", "sleep 100", name="tests")["task_id"]
    expect(page).to_have_title(re.compile(r"^\(1\) Sessions"))
    assert [url for url in streams if "/live." not in url] == [viewer.url + "/live"]
    daemon.request("DELETE", f"/tasks/{task_id}")
    expect(page.locator("#status")).to_contain_text("tests cancelled.")
    expect(page).to_have_title(re.compile(r"^Sessions"))


def test_each_export_and_method_has_a_type(page: Page, viewer: RealViewer) -> None:
    Managed(page, viewer)
    found = page.evaluate(
        """async () => Object.fromEntries(Object.entries(await import("/static/agentd.js")).map(([name, each]) =>
          [name, [...Object.getOwnPropertyNames(each.prototype), ...Object.getOwnPropertyNames(new each(0))]
            .filter((name) => !["constructor", "stack", "message", "name"].includes(name))]))"""
    )
    assert found.keys() == {"AgentdError", "Connection", "TaskStateManager"}
    types = (STATIC / "agentd.d.ts").read_text()
    for name, members in found.items():
        text = re.search(rf"export class {name}\b.*?^}}", types, re.S | re.M)
        assert text is not None
        missing = [member for member in members if not re.search(rf"\b{member}(<|\(|:)", text[0])]
        assert not missing, f"{name}: {missing}"
    events = page.evaluate("TaskStateManager.EVENTS")
    told = re.search(r"interface TaskEvents \{(.*?)^\}", types, re.S | re.M)
    assert told is not None
    assert re.findall(r"^  (\w+):", told[1], re.M) == events
