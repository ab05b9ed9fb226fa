"""The queue: what waits at each agent, in which order, and why."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import BrowserContext, Page, expect

from tests.daemon.harness import RealDaemon

from .conftest import MakeDaemon, MakeViewer, Watched, enter
from .scripted_agent import ScriptedAgent
from .viewer import RealViewer


def test_each_agent_tells_its_queue_with_the_reasons(make_daemon: MakeDaemon, make_viewer: MakeViewer) -> None:
    one, other = make_daemon("one").start(), make_daemon("other").start()
    running = one.shell("build", "sleep 600")
    one.state(running["task_id"], "running")
    queued = one.shell("build", "true", priority=5)
    waiting = one.shell("build", "true", needs=[queued["task_id"]])
    viewer = make_viewer({"one": one.data_dir, "other": other.data_dir, "gone": "http://127.0.0.1:9"}).start().log_in()
    found = viewer.get("/queue")
    queue, empty, gone = found["data"]
    assert (queue["agent"], queue["depth"], queue["waiting"]) == ("one", 1, 1)
    assert [(row["agent"], row["task_id"], row["position"]) for row in queue["data"]] == [
        ("one", queued["task_id"], 0),
        ("one", waiting["task_id"], None),
    ]
    assert [row["reason"] for row in queue["data"]] == [
        "the session runs 1 of max_parallel 1",
        f"needs {queued['task_id']}",
    ]
    assert (empty["agent"], empty["data"]) == ("other", [])
    assert (gone["agent"], gone["data"]) == ("gone", None)
    assert found["partial"] is True
    page = viewer.html("/queue")
    assert "1 queued, 1 waiting; the oldest has been queued for" in page
    assert "Nothing waits here" in page
    assert f"/a/one/s/build/t/{queued['task_id']}" in page


def test_a_long_queue_is_paged_agent_by_agent(viewer: RealViewer, daemon: RealDaemon) -> None:
    running = daemon.shell("build", "sleep 600")
    daemon.state(running["task_id"], "running")
    tasks = [daemon.shell("build", "true")["task_id"] for _ in range(3)]
    first = viewer.get("/queue?limit=2")["data"][0]
    assert [row["task_id"] for row in first["data"]] == tasks[:2]
    assert "Next page" in viewer.html("/queue?limit=2")
    rest = viewer.get(f"/queue?limit=2&agent=one&cursor={first['next']}")["data"][0]
    assert [(row["task_id"], row["position"]) for row in rest["data"]] == [(tasks[2], 2)]


def test_a_cursor_without_its_agent_is_refused(make_viewer: MakeViewer, daemon: RealDaemon) -> None:
    viewer = make_viewer({"one": daemon.data_dir, "gone": "http://127.0.0.1:9"}).start().log_in()
    answer = viewer.request("GET", "/queue?cursor=abc", Accept="application/json")
    assert answer.status == 400
    assert "name it with agent=" in answer.json["detail"]
    assert answer.json["hint"] == "Start again without it."


def test_a_cursor_that_is_none_is_what_its_agent_refuses(viewer: RealViewer) -> None:
    page = viewer.get("/queue?agent=one&cursor=nonsense")
    assert page["data"][0]["data"] is None
    assert page["agents"][0]["reason_code"] == "not_taken"


def test_a_queue_of_a_newer_agent_is_shown_as_it_is(make_viewer: MakeViewer, tmp_path: Path) -> None:
    row = {"task_id": "t", "session_id": None, "state": "parked", "position": "soon", "reason": ["moon"], "queue": 3}
    answer = {"data": [row], "depth": "many", "waiting": None, "oldest_age_s": "old", "next": 7}
    with ScriptedAgent({"/queue": answer}) as newer:
        viewer = make_viewer({"new": newer.url}, *newer.flags(tmp_path, "new")).start().log_in()
        page = viewer.html("/queue")
    assert "parked" in page
    assert "moon" in page


def test_the_reason_why_a_task_waits_changes_on_the_open_page(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    first = daemon.shell("build", "sleep 600")
    daemon.state(first["task_id"], "running")
    needed = daemon.shell("build", "sleep 600")
    last = daemon.shell("build", "true", needs=[needed["task_id"]])
    page.goto(f"{viewer.url}/queue")
    rows = page.locator("#rows-one")
    expect(rows.locator("tr")).to_have_count(2)
    expect(page.locator(f"#row-one-{last['task_id']}")).to_contain_text(f"needs {needed['task_id']}")
    expect(page.locator(f"#row-one-{needed['task_id']}")).to_contain_text("the session runs 1 of max_parallel 1")
    daemon.request("PATCH", "/sessions/build", {"policy": {"max_parallel": 2}})
    daemon.state(needed["task_id"], "running")
    expect(rows.locator("tr")).to_have_count(1)
    daemon.request("DELETE", f"/tasks/{needed['task_id']}")
    expect(page.get_by_text("Nothing waits here")).to_be_visible()


def test_rows_of_an_agent_that_falls_silent_stay_greyed_in_its_own_list(
    make_daemon: MakeDaemon, make_viewer: MakeViewer, context: BrowserContext, watched: Watched
) -> None:
    daemons = {name: make_daemon(name).start() for name in ("one", "other")}
    waiting = {}
    for name, daemon in daemons.items():
        daemon.state(daemon.shell("build", "sleep 600")["task_id"], "running")
        waiting[name] = daemon.shell("build", "true")["task_id"]
    viewer = make_viewer({name: daemon.data_dir for name, daemon in daemons.items()}).start().log_in()
    enter(context, viewer)
    page = context.new_page()
    page.goto(f"{viewer.url}/queue")
    expect(page.locator("[data-state=queued]")).to_have_count(2)
    daemons["other"].kill9()
    kept = page.locator(f"#rows-other > #row-other-{waiting['other']}.stale")
    expect(kept.locator("[data-state=unknown]")).to_be_visible()
    expect(page.locator("#depth-other [data-state=unknown]")).to_be_visible()
    expect(page.locator(f"#rows-one > #row-one-{waiting['one']} [data-state=queued]")).to_be_visible()
