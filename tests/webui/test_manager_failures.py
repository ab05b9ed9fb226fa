"""`TaskStateManager` when agents, the viewer or streams fail: what nobody vouches for is unknown, never "running"."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, Route

from tests.daemon.harness import RealDaemon, until

from .conftest import VISIBILITY, MakeViewer, Watched, enter, show
from .managing import Managed
from .viewer import RealViewer


@pytest.fixture(autouse=True)
def failures_are_expected(watched: Watched) -> None:
    watched.expected += ["Failed to load resource", "net::ERR_"]


def running(daemon: RealDaemon, managed: Managed) -> str:
    """A running task that the manager follows."""
    task_id: str = daemon.shell("build", "sleep 100")["task_id"]
    daemon.state(task_id, "running")
    managed.do("initialize")
    assert managed.next("taskRestored")["task_id"] == task_id
    return task_id


def states(managed: Managed) -> list[str]:
    """The states that are told at this moment."""
    found: list[str] = managed.page.evaluate("manager.tasks.map((task) => task.state)")
    return found


def test_an_agent_that_is_killed_makes_its_tasks_unknown_until_it_tells_what_became_of_them(
    page: Page, viewer: RealViewer, daemon: RealDaemon
) -> None:
    managed = Managed(page, viewer)
    task_id = running(daemon, managed)
    daemon.kill9()
    lost = managed.next("connectionLost", agent="one")
    assert lost["tasks"] == [task_id] and lost["reason_code"] and lost["reason"] and lost["since"]
    told = managed.next("taskProgress", task_id=task_id)
    assert (told["state"], told["last"]["state"]) == ("unknown", "running")
    assert states(managed) == ["unknown"]
    status = managed.do("getTaskStatus", task_id)
    assert (status["state"], status["since"]) == ("unknown", lost["since"])
    assert managed.do("getTaskStatus", "other")["state"] == "unknown"
    daemon.start()
    managed.next("connectionRestored", agent="one")
    assert managed.next("taskError", task_id=task_id)["cause"]["code"] == "interrupted"
    assert managed.do("restoreActiveTask") is None


def test_a_viewer_that_is_killed_makes_all_unknown_and_comes_back_by_itself(
    page: Page, viewer: RealViewer, daemon: RealDaemon
) -> None:
    managed = Managed(page, viewer)
    task_id = running(daemon, managed)
    viewer.kill9()
    assert managed.next("connectionLost", agent=None)["reason_code"] == "viewer_unreachable"
    assert states(managed) == ["unknown"]
    assert managed.do("getTaskStatus", task_id)["reason_code"] == "viewer_unreachable"
    viewer.start()
    managed.next("connectionRestored", agent=None)
    assert managed.next("taskProgress", task_id=task_id)["state"] == "running"
    daemon.request("DELETE", f"/tasks/{task_id}")
    assert managed.next("taskError")["state"] == "cancelled"


def test_without_a_stream_the_clock_says_when_to_look(page: Page, viewer: RealViewer, daemon: RealDaemon) -> None:
    page.route("**/live*", lambda route: route.abort())
    managed = Managed(page, viewer)
    task_id = running(daemon, managed)
    daemon.request("DELETE", f"/tasks/{task_id}")
    assert managed.next("taskError")["state"] == "cancelled"
    other = daemon.shell("build", "true")["task_id"]
    daemon.wait(other)
    assert managed.do("getTaskStatus", other)["state"] == "completed"
    assert managed.heard("connectionLost") == []  # the states are known, only later


def test_an_agent_that_fails_while_it_is_polled_is_told_with_its_reason(
    page: Page, viewer: RealViewer, daemon: RealDaemon
) -> None:
    page.route("**/live*", lambda route: route.abort())
    managed = Managed(page, viewer)
    task_id = running(daemon, managed)
    daemon.kill9()
    assert managed.next("connectionLost", agent="one")["tasks"] == [task_id]
    daemon.start()
    managed.next("connectionRestored", agent="one")
    assert managed.next("taskError")["task_id"] == task_id


def test_answers_that_are_no_answers_make_tasks_unknown(page: Page, viewer: RealViewer, daemon: RealDaemon) -> None:
    managed = Managed(page, viewer)
    running(daemon, managed)
    for status, body in ((500, "<h1>no</h1>"), (200, '{"data": ['), (200, "null"), (200, "{}"), (200, '{"data": 1}')):
        page.route("**/api/tasks?*", answering(status, body))
        page.evaluate("manager.refresh()")
        lost = managed.next("connectionLost", agent=None)
        assert lost["reason_code"] in ("bad_body", "bad_shape") and lost["reason"]
        assert states(managed) == ["unknown"]
        page.unroute("**/api/tasks?*")
        managed.next("connectionRestored", agent=None)
        until(lambda: states(managed) == ["running"])


def answering(status: int, body: str) -> Callable[[Route], None]:
    """Answers requests in the viewer's place."""
    return lambda route: route.fulfill(status=status, body=body)


def test_with_an_agent_unknown_it_is_not_said_that_nothing_is_active(
    context: BrowserContext, make_viewer: MakeViewer, daemon: RealDaemon, tmp_path: Path
) -> None:
    viewer = make_viewer({"one": daemon.data_dir, "gone": tmp_path / "gone"}).start().log_in()
    enter(context, viewer)
    managed = Managed(context.new_page(), viewer)
    assert managed.do("initialize") == []
    assert managed.next("connectionLost")["agent"] == "gone"
    assert managed.do("restoreActiveTask") is None
    assert managed.heard("noActiveTask") == []
    assert managed.do("getTaskStatus", "none")["reason_code"] == "not_running"
    assert managed.do("getJobHistory")["partial"] is True


def test_a_token_that_is_revoked_makes_tasks_unknown(
    context: BrowserContext, make_viewer: MakeViewer, daemon: RealDaemon, tmp_path: Path
) -> None:
    token = tmp_path / "one.token"
    token.write_text(daemon.token)
    viewer = make_viewer({"one": daemon.agent["url"]}, "--token-file", f"one={token}").start().log_in()
    enter(context, viewer)
    managed = Managed(context.new_page(), viewer)
    task_id = running(daemon, managed)
    token.write_text("no longer known")
    until(lambda: viewer.request("GET", "/api/agents/one/status").status == 401)
    managed.page.evaluate("manager.refresh()")
    lost = managed.next("connectionLost", agent="one")
    assert (lost["reason_code"], lost["tasks"]) == ("token_rejected", [task_id])
    assert states(managed) == ["unknown"]


def test_a_login_that_ended_is_said(page: Page, viewer: RealViewer, daemon: RealDaemon) -> None:
    managed = Managed(page, viewer)
    running(daemon, managed)
    page.context.clear_cookies()
    page.evaluate("manager.refresh()")
    assert managed.next("connectionLost", agent=None)["reason_code"] == "unauthorized"
    assert states(managed) == ["unknown"]


def test_a_session_that_is_deleted_leaves_no_task_behind(page: Page, viewer: RealViewer, daemon: RealDaemon) -> None:
    managed = Managed(page, viewer)
    task_id = running(daemon, managed)
    until(lambda: daemon.request("DELETE", "/sessions/build?force=true").status < 300)
    managed.next("taskError", task_id=task_id)
    assert states(managed) == []


def test_a_hidden_tab_asks_nothing_and_is_true_when_it_is_seen_again(
    page: Page, viewer: RealViewer, daemon: RealDaemon
) -> None:
    page.add_init_script(VISIBILITY)
    page.route("**/live*", lambda route: route.abort())
    managed = Managed(page, viewer)
    task_id = running(daemon, managed)
    show(page, "hidden")
    page.evaluate("manager.refresh()")  # the last one, after which nothing is planned
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    daemon.request("DELETE", f"/tasks/{task_id}")
    daemon.wait(task_id)
    page.wait_for_timeout(600)  # four times the polling frequency: that nothing comes can only be waited for
    assert asked == []
    show(page, "visible")
    assert managed.next("taskError")["state"] == "cancelled"
