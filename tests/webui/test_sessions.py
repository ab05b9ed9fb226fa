"""The first page: sessions of all agents, live."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.daemon.harness import RealDaemon

from .viewer import RealViewer


def test_the_first_page_shows_the_sessions_and_what_they_do(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = daemon.shell("build", "true")
    daemon.wait(task["task_id"])
    found = viewer.get("/")
    assert [(row["agent"], row["session_id"], row["state"]) for row in found["data"]] == [("one", "build", "idle")]
    assert found["partial"] is False
    assert found["totals"] == {
        "running": 0,
        "queued": 0,
        "waiting": 0,
        "awaiting": 0,
        "agents": 1,
        "unknown": 0,
    }


def test_a_session_appears_on_an_open_page_and_its_end_is_seen(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    page.goto(viewer.url)
    expect(page.get_by_text("No session yet")).to_be_visible()
    task = daemon.shell("build", "sleep 100")
    row = page.locator("#row-one-build")
    expect(row.locator("[data-state=working]")).to_be_visible()
    daemon.request("DELETE", f"/tasks/{task['task_id']}")
    expect(row.locator("[data-state=idle]")).to_be_visible()
    expect(row).to_contain_text("1 cancelled")


def test_what_runs_in_a_session_is_named_beside_it(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    page.goto(viewer.url)
    tasks = [daemon.shell(name, "sleep 100", name=f"task of {name}") for name in ("one", "two")]
    row = page.locator("#row-one-two")
    row.get_by_role("link", name="task of two").click()
    expect(page.locator("h1")).to_have_text("task of two")
    assert {task["task_id"] for task in viewer.get("/")["running"]} == {task["task_id"] for task in tasks}
    assert [task["name"] for task in viewer.get("/?q=one")["running"]] == ["task of one"]
    page.go_back()
    for task in tasks:
        daemon.request("DELETE", f"/tasks/{task['task_id']}")
    expect(page.get_by_text("task of")).to_have_count(0)
    expect(page.locator("#status")).to_contain_text("0 running")


def test_times_grow_old_on_a_page_on_which_nothing_happens(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    daemon.wait(daemon.shell("build", "true")["task_id"])
    page.clock.install()
    page.goto(f"{viewer.url}/analytics")
    expect(page.locator("main")).to_contain_text(re.compile(r"As of (now|\d+ s ago)"))
    page.clock.fast_forward("03:00:00")
    expect(page.locator("main")).to_contain_text("As of 3 h ago")
    page.goto(f"{viewer.url}/settings")
    expect(page.locator("main")).to_contain_text("in 11 h")
    page.clock.fast_forward("03:00:00")
    expect(page.locator("main")).to_contain_text("in 8 h")
