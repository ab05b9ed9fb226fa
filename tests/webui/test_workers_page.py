"""The workers: how many each agent may have, and what each of them does."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

from tests.daemon.harness import RealDaemon

from .conftest import MakeDaemon, MakeViewer
from .scripted_agent import ScriptedAgent
from .viewer import RealViewer


def test_the_pool_of_each_agent_is_told_with_its_workers(make_daemon: MakeDaemon, make_viewer: MakeViewer) -> None:
    one = make_daemon("one", workers={"min": 1, "max": 3}).start()
    other = make_daemon("other", workers={"min": 1, "max": 1}).start()
    running = one.shell("build", "sleep 600")
    one.state(running["task_id"], "running")
    viewer = make_viewer({"one": one.data_dir, "other": other.data_dir, "gone": "http://127.0.0.1:9"}).start().log_in()
    first, second, gone = viewer.get("/workers")["data"]
    assert (first["status"]["workers"]["max"], first["status"]["workers"]["busy"]) == (3, 1)
    busy = [row for row in first["data"] if row["state"] == "busy"]
    assert [(row["agent"], row["task_id"], row["session_id"]) for row in busy] == [("one", running["task_id"], "build")]
    assert second["status"]["workers"]["max"] == 1
    assert (gone["agent"], gone["data"]) == ("gone", None)
    page = viewer.html("/workers")
    assert f"/a/one/s/build/t/{running['task_id']}" in page
    assert "1 of at most 3 busy" in page


def test_many_workers_are_paged_agent_by_agent(make_daemon: MakeDaemon, make_viewer: MakeViewer) -> None:
    daemon = make_daemon(workers={"min": 3, "max": 3}).start()
    viewer = make_viewer({"one": daemon.data_dir}).start().log_in()
    first = viewer.get("/workers?limit=2")["data"][0]
    rest = viewer.get(f"/workers?limit=2&agent=one&cursor={first['next']}")["data"][0]
    found = [row["worker_id"] for row in (*first["data"], *rest["data"])]
    assert found == [row["worker_id"] for row in daemon.workers()]
    assert "Next page" in viewer.html("/workers?limit=2")


def test_a_pool_that_backs_off_is_said_to_be_degraded(make_viewer: MakeViewer, tmp_path: Path) -> None:
    pool = {"max": 4, "busy": 0, "idle": 0, "starting": 1, "restarts": 7, "degraded": True}
    worker = {"worker_id": "w9", "pid": None, "state": "frozen", "task_id": "t", "started_at": 5, "tasks_done": "many"}
    answers = {
        "/status": {"agent_id": "a", "state": "degraded", "workers": pool, "current": ["odd", {"task_id": "t"}]},
        "/workers": {"data": [worker], "next": None},
    }
    with ScriptedAgent(answers) as agent:
        viewer = make_viewer({"new": agent.url}, *agent.flags(tmp_path, "new")).start().log_in()
        page = viewer.html("/workers")
    assert "7 lost and replaced" in page
    assert "it backs off" in page
    assert "frozen" in page


def test_an_agent_that_says_nothing_of_its_pool_still_tells_its_workers(
    make_viewer: MakeViewer, tmp_path: Path
) -> None:
    workers = {"data": [{"worker_id": "w9", "state": "idle"}], "next": None}
    pools: list[object] = [7, None, {}]
    answers: dict[str, object] = {"/workers": workers}
    with ScriptedAgent(answers) as agent:
        viewer = make_viewer({"new": agent.url}, *agent.flags(tmp_path, "new")).start().log_in()
        for pool in pools:
            answers["/status"] = {"agent_id": "a", "state": "idle", "workers": pool}
            assert "w9" in viewer.html("/workers")


def test_a_worker_is_seen_to_begin_and_to_end_its_task(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    page.goto(f"{viewer.url}/workers")
    expect(page.locator("#rows-one [data-state=idle]").first).to_be_visible()
    task = daemon.shell("build", "sleep 600")
    row = page.locator("#rows-one tr", has=page.get_by_role("link", name=task["task_id"]))
    expect(row.locator("[data-state=busy]")).to_be_visible()
    daemon.request("DELETE", f"/tasks/{task['task_id']}")
    expect(row).to_have_count(0)
    expect(page.locator("#pool-one")).to_contain_text("0 of at most")
