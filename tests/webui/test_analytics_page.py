"""Analytics: sums that are what the agents hold, and say when they are not of everything."""

from __future__ import annotations

import re
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.daemon.harness import RealDaemon

from .conftest import MakeDaemon, MakeViewer
from .scripted_agent import ScriptedAgent
from .viewer import RealViewer


def test_the_sums_are_what_the_agents_hold(make_daemon: MakeDaemon, make_viewer: MakeViewer) -> None:
    daemons = {name: make_daemon(name).start() for name in ("one", "other")}
    for daemon in daemons.values():
        needed = [daemon.shell(f"s{number}", "sleep 0.05")["task_id"] for number in range(3)]
        failed = daemon.shell("s1", "exit 3")["task_id"]
        late = daemon.shell("s2", "sleep 60", timeout_s=0.1)["task_id"]
        for task_id in (*needed, failed, late):
            daemon.wait(task_id)
        running = daemon.shell("s3", "sleep 600")["task_id"]
        daemon.state(running, "running")
        daemon.request("DELETE", f"/tasks/{daemon.shell('s3', 'true')['task_id']}")
    held = [task for daemon in daemons.values() for task in daemon.get("/tasks?limit=1000")["data"]]
    viewer = make_viewer({name: daemon.data_dir for name, daemon in daemons.items()}).start().log_in()
    found = viewer.get("/analytics")
    assert found["overall"]["tasks"] == len(held) == 14
    assert found["overall"]["counts"] == Counter(task["state"] for task in held)
    assert found["overall"]["success_rate"] == 6 / 10
    assert [day["day"] for day in found["by_day"]] == sorted(day["day"] for day in found["by_day"])
    assert len(found["by_day"]) == found["days"] == 7
    by_day = {day["day"]: day["tasks"] for day in found["by_day"] if day["tasks"]}
    assert by_day == Counter(task["created_at"][:10] for task in held)
    causes = Counter((task["state"], task["cause"]["code"]) for task in held if task["cause"])
    assert {(row["state"], row["cause"]): row["tasks"] for row in found["by_cause"]} == causes
    took = sorted(task["duration_s"] for task in held if task["ended_at"] and task["duration_s"] is not None)
    assert [row["duration_s"] for row in found["slowest"]] == took[::-1][:10]
    assert (found["overall"]["p50_s"], found["overall"]["p95_s"]) == (took[(len(took) - 1) // 2], took[-1])
    assert (found["short"], found["other_days"], found["partial"]) == ([], 0, False)
    assert viewer.get("/analytics?agent=one&kind=shell")["overall"]["tasks"] == 7
    assert viewer.get("/analytics?kind=docker")["overall"]["tasks"] == 0


@pytest.mark.parametrize("days", ["0", "91", "-1", "many", "1e3"])
def test_days_that_make_no_sense_are_refused_by_name(viewer: RealViewer, days: str) -> None:
    answer = viewer.request("GET", f"/analytics?days={days}", Accept="application/json")
    assert (answer.status, answer.json["detail"]) == (400, "days: must be 1 to 90")


def test_an_agent_that_does_not_answer_is_unknown_and_not_nothing(daemon: RealDaemon, make_viewer: MakeViewer) -> None:
    daemon.wait(daemon.shell("build", "true")["task_id"])
    viewer = make_viewer({"one": daemon.data_dir, "gone": "http://127.0.0.1:9"}).start().log_in()
    found = viewer.get("/analytics")
    assert (found["overall"]["tasks"], found["partial"]) == (1, True)


def task(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "task_id": f"t{number}",
        "session_id": "s",
        "state": "completed",
        "kind": "shell",
        "created_at": datetime.now(UTC).isoformat(),
        "duration_s": number,
        **fields,
    }


def test_more_tasks_than_a_page_can_count_are_said_to_be_left_out(make_viewer: MakeViewer, tmp_path: Path) -> None:
    page = {"data": [task(number) for number in range(1000)], "next": "more"}
    with ScriptedAgent({"/tasks": page}) as agent:
        viewer = make_viewer({"big": agent.url}, *agent.flags(tmp_path, "big")).start().log_in()
        found = viewer.get("/analytics")
        assert found["overall"]["tasks"] == 10_000
        assert found["short"] == [{"agent": "big", "tasks": 10_000, "reason": "more are not counted", "late": False}]


class Slow(dict[str, Any]):
    """The second page comes only when a test lets it."""

    def __init__(self) -> None:
        super().__init__({"/tasks": {"data": [task(1)], "next": "more"}})
        self.asked = 0
        self.released = threading.Event()

    def get(self, key: str, default: Any = None) -> Any:
        if key != "/tasks":
            return super().get(key, default)
        self.asked += 1
        if self.asked > 1:
            self.released.wait(30)
            return {"data": [task(2)], "next": None}
        return self[key]


def test_pages_that_did_not_come_in_time_are_said_and_asked_for_again(make_viewer: MakeViewer, tmp_path: Path) -> None:
    answers = Slow()
    with ScriptedAgent(answers) as agent:
        viewer = make_viewer({"slow": agent.url}, *agent.flags(tmp_path, "slow")).start().log_in()
        viewer.prefer = "wait=2"  # which the first page of rows does not need, and the second does
        html = viewer.html("/analytics")
        assert "only the newest 1 tasks are counted" in html
        assert re.search(r"<main[^>]* data-pending", html)
        assert "is slow" not in html
        answers.released.set()
        answers.asked = 0
        found = viewer.get("/analytics", Prefer="wait=30")
        assert (found["overall"]["tasks"], found["short"]) == (2, [])


def test_what_a_newer_agent_tells_is_counted_as_it_is(make_viewer: MakeViewer, tmp_path: Path) -> None:
    rows = [
        task(1, state="evicted", cause={"code": "moved"}, ended_at="x"),
        task(2, state=7, kind=["dream"], cause="why", spec=[1]),
        task(3, created_at="2001-01-01T00:00:00Z"),
        {},
    ]
    with ScriptedAgent({"/tasks": {"data": rows, "next": None}}) as agent:
        viewer = make_viewer({"new": agent.url}, *agent.flags(tmp_path, "new")).start().log_in()
        found = viewer.get("/analytics")
        assert found["overall"]["counts"] == {"evicted": 1, "7": 1, "completed": 1, "None": 1}
        assert found["other_days"] == 2
        html = viewer.html("/analytics")
        assert "is the clock of an agent off?" in html
        assert "moved" in html


def test_an_answer_of_another_shape_is_its_agents_trouble(make_viewer: MakeViewer, tmp_path: Path) -> None:
    with ScriptedAgent({"/tasks": {"data": "none"}}) as agent:
        viewer = make_viewer({"odd": agent.url}, *agent.flags(tmp_path, "odd")).start().log_in()
        contact = viewer.get("/analytics")["agents"][0]
        assert (contact["status"], contact["reason_code"]) == ("incompatible", "bad_shape")


def test_the_drawing_the_table_and_the_links_tell_the_same(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    page.goto(f"{viewer.url}/analytics")
    expect(page.get_by_text("No task was submitted")).to_be_visible()
    for command in ("true", "true", "exit 3"):
        daemon.wait(daemon.shell("build", command)["task_id"])
    page.goto(f"{viewer.url}/analytics?days=30")
    titles = page.locator("svg.chart rect title")
    today = viewer.get("/analytics")["by_day"][-1]["day"]
    assert sorted(titles.all_text_contents()) == sorted([f"{today}: 2 completed", f"{today}: 1 failed"])
    good, bad = (page.locator(f"svg.chart rect.{tone}").bounding_box() for tone in ("good", "bad"))
    assert good is not None
    assert bad is not None
    assert good["height"] == pytest.approx(2 * bad["height"], rel=0.01)
    page.get_by_text("The figures by day").click()
    expect(page.locator("#figures tbody tr").last).to_contain_text(f"{today}3")
    page.get_by_role("link", name="exit_code").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("exit 3")
