"""The page of a session: order, first failure, events, artifacts, a thousand tasks, agents of any version."""

from __future__ import annotations

import html
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.daemon.harness import RealDaemon, until

from .accessible import wrong_with
from .conftest import MakeViewer, enter
from .scripted_agent import ScriptedAgent
from .viewer import RealViewer


def text_of(page: str) -> str:
    """What a page says, without its markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def test_what_runs_comes_first_then_what_waits_then_what_ended_last(viewer: RealViewer, daemon: RealDaemon) -> None:
    first, second = daemon.shell("s", "true"), daemon.shell("s", "true")
    daemon.wait(second["task_id"])
    running = daemon.shell("s", "sleep 100")
    daemon.state(running["task_id"], "running")
    waiting = daemon.shell("s", "true", needs=[running["task_id"]])
    queued = daemon.shell("s", "true")
    found = viewer.get("/a/one/s/s")
    ids = [task["task_id"] for task in found["tasks"]]
    assert ids == [task["task_id"] for task in (running, queued, waiting, second, first)]
    assert found["session"]["state"] == "working" and "tasks" not in found["session"]
    assert found["next"] is None
    assert found["partial"] is False


def test_tasks_are_filtered_by_state_and_by_text_in_name_or_command(viewer: RealViewer, daemon: RealDaemon) -> None:
    failed = daemon.shell("s", "exit 1", name="Tests")
    daemon.wait(failed["task_id"])
    daemon.wait(daemon.shell("s", "echo tests")["task_id"])
    daemon.wait(daemon.shell("s", "true")["task_id"])
    assert len(viewer.get("/a/one/s/s?q=TESTS")["tasks"]) == 2
    found = viewer.get("/a/one/s/s?q=tests&state=failed")["tasks"]
    assert [task["task_id"] for task in found] == [failed["task_id"]]
    page = viewer.html("/a/one/s/s?q=nothing")
    assert "No task here" in page and "Show all tasks" in page


def test_a_session_that_failed_leads_to_the_task_that_failed_first(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    first = daemon.shell("s", "while [ ! -e go ]; do sleep 0.01; done; exit 3", name="the first")
    last = daemon.shell("s", "true", needs=[first["task_id"]])
    (daemon.data_dir / "sessions/s/workspace/go").touch()
    daemon.wait(last["task_id"])
    page.goto(viewer.url + "/a/one/s/s")
    notice = page.locator("#first-failed")
    expect(notice).to_contain_text("exited with code 3")
    notice.get_by_role("link", name="the first").click()
    expect(page).to_have_url(f"{viewer.url}/a/one/s/s/t/{first['task_id']}")


def test_a_thousand_tasks_are_shown_in_pages_each_once(viewer: RealViewer, daemon: RealDaemon) -> None:
    daemon.request("POST", "/sessions", {"session_id": "s", "policy": {"tasks_kept": 5, "max_parallel": 4}})
    made = [daemon.shell("s", "true")["task_id"] for _ in range(120)]
    for task_id in made:
        daemon.wait(task_id)
    made += [daemon.shell("s", "true", not_before="2100-01-01T00:00:00Z")["task_id"] for _ in range(1000)]
    until(lambda: len(daemon.get("/sessions/s/history?limit=1000")["data"]) == 120)
    seen: list[str] = []
    cursor = ""
    while True:
        found = viewer.get(f"/a/one/s/s?cursor={cursor}", Prefer="wait=20")
        assert len(found["tasks"]) <= 100
        seen += [task["task_id"] for task in found["tasks"]]
        cursor = found["next"]
        if cursor is None:
            break
    assert sorted(seen) == sorted(made) and len(seen) == len(set(seen))
    assert viewer.html("/a/one/s/s").count("data-row") <= 110


def test_events_are_told_in_words_and_older_ones_are_a_page_away(viewer: RealViewer, daemon: RealDaemon) -> None:
    for number in range(12):
        daemon.wait(daemon.shell("s", f"exit {number % 2}", name=f"task {number}")["task_id"])
    total = daemon.get("/sessions/s/events?limit=1000")["seq"]
    seen: list[int] = []
    before: int | None = None
    while True:
        found = viewer.get("/a/one/s/s" + (f"?before={before}" if before is not None else ""))
        seen = [event["seq"] for event in found["events"]] + seen
        before = found["events_older"]
        if before is None:
            break
    assert seen == list(range(1, total + 1))
    said = text_of(viewer.html("/a/one/s/s"))
    assert "task 11 ✕ failed exited with code 1" in said
    assert "attempt 1 began on worker" in said
    assert "the session was made" in text_of(viewer.html("/a/one/s/s?before=3"))


@pytest.mark.parametrize("wrong", ["before=x", "cursor=x", "cursor=1~2", "limit=0", "cursor=older~x"])
def test_a_wrong_parameter_is_named(viewer: RealViewer, daemon: RealDaemon, wrong: str) -> None:
    daemon.wait(daemon.shell("s", "true")["task_id"])
    answer = viewer.request("GET", f"/a/one/s/s?{wrong}", Accept="application/json")
    assert answer.status == 400
    assert wrong.split("=")[0] in answer.json["detail"]


def test_artifacts_are_listed_and_come_through_the_viewer(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    daemon.wait(
        daemon.shell("s", 'mkdir "$AGENTD_ARTIFACTS/a b"; echo fine > "$AGENTD_ARTIFACTS/a b/r?.txt"')["task_id"]
    )
    assert [each["path"] for each in viewer.get("/a/one/s/s")["artifacts"]] == ["a b/r?.txt"]
    page.goto(viewer.url + "/a/one/s/s")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download a b/r?.txt").click()
    assert download.value.path().read_text() == "fine\n"


def test_a_session_that_is_not_there_says_so_and_what_to_do(viewer: RealViewer) -> None:
    answer = viewer.request("GET", "/a/one/s/nope", Accept="text/html")
    assert answer.status == 404
    assert "no session &#39;nope&#39;" in answer.body.decode() and "sessions page" in answer.body.decode()


def test_a_session_of_a_silent_agent_is_said_to_be_unknown_and_nothing_more(make_viewer: MakeViewer) -> None:
    viewer = make_viewer({"gone": "http://127.0.0.1:9"}).start().log_in()
    found = viewer.get("/a/gone/s/s")
    assert (found["session"], found["partial"], found["agents"][0]["agent"]) == (None, True, "gone")
    page = viewer.html("/a/gone/s/s")
    assert "data-nothing" in page and 'data-unknown="gone"' in page and "data-state" not in page
    assert viewer.html("/a/gone/s/s/t/x").count("data-nothing") == 1


def test_markup_in_names_is_text(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    nasty = '"><script>window.hit=1</script><b>bold</b>'
    daemon.request("POST", "/sessions", {"session_id": "s", "title": nasty, "labels": {"a": nasty}})
    task = daemon.shell("s", "exit 1", name=nasty, labels={"b": nasty})
    daemon.wait(task["task_id"])
    for path in ("/a/one/s/s", f"/a/one/s/s/t/{task['task_id']}"):
        page.goto(viewer.url + path)
        expect(page.locator("h1")).to_have_text(nasty)
        assert page.locator("main b, main script:not([src])").count() == 0
        assert page.evaluate("window.hit") is None


def test_an_open_page_shows_what_happens(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    daemon.request("POST", "/sessions", {"session_id": "s"})
    page.goto(viewer.url + "/a/one/s/s")
    expect(page.locator(".empty").first).to_contain_text("No task yet")
    task = daemon.shell("s", "sleep 100")
    row = page.locator(f"#row-{task['task_id']}")
    expect(row.locator("[data-state=running]")).to_be_visible()
    expect(page.locator("#timeline .now")).to_have_count(1)
    daemon.request("DELETE", f"/tasks/{task['task_id']}")
    expect(row.locator("[data-state=cancelled]")).to_be_visible()
    expect(page.locator("[data-state=running]")).to_have_count(0)


def newer(clock_s: float = 0) -> dict[str, Any]:
    """What an agent of a version to come answers, by its own clock."""
    now = datetime.now(UTC) + timedelta(seconds=clock_s)

    def at(seconds: float) -> str:
        return (now + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")

    task = {
        "task_id": "t1",
        "session_id": "s",
        "kind": "quantum",
        "spec": {"qubits": 40, "gate": {"name": "hadamard"}, "api_token": "hidden-value"},
        "state": "entangled",
        "created_at": at(-40),
        "attempt": 1,
        "attempts": [{"n": 1, "started_at": at(-30), "worker_id": "q1", "temperature_k": 0.015}],
        "mood": {"is": "hopeful"},
    }
    running = {**task, "task_id": "t2", "state": "running", "kind": "shell", "spec": {"command": "make"}}
    session = {
        "session_id": "s",
        "state": "dreaming",
        "reason": "it is night",
        "counts": {"entangled": 1, "running": 1},
        "created_at": at(-60),
        "updated_at": at(-1),
        "seq": 2,
        "planet": "mars",
        "tasks": [task, running, "no task at all"],
    }
    events = [{"seq": 1, "type": "task.dreamt", "at": at(-5), "task_id": "t1", "of": "sheep"}]
    return {
        "/sessions/s": session,
        "/sessions/s/events": {"data": events, "next": None, "gap": None, "seq": 1},
        "/sessions/s/artifacts": {"data": [], "next": None},
        "/sessions/s/history": {"data": [], "next": None},
        "/tasks": {"data": [task, running], "next": None},
        "/tasks/t1": task,
        "/tasks/t2": running,
    }


def test_unknown_kinds_states_fields_and_events_of_a_newer_agent_are_shown_as_they_are(
    make_viewer: MakeViewer, tmp_path: Path, context: BrowserContext
) -> None:
    with ScriptedAgent(newer()) as agent:
        viewer = make_viewer({"newer": agent.url}, *agent.flags(tmp_path, "newer")).start().log_in()
        enter(context, viewer)
        page = context.new_page()
        page.goto(viewer.url + "/a/newer/s/s")
        expect(page.locator("#row-t1 [data-state=entangled]")).to_be_visible()
        for text in ("dreaming", "it is night", "quantum", "task.dreamt", "sheep", "planet", "mars"):
            expect(page.locator("main")).to_contain_text(text)
        assert wrong_with(page) == []
        page.goto(viewer.url + "/a/newer/s/s/t/t1")
        for text in ("entangled", "quantum", "qubits", "hadamard", "mood", "hopeful", "temperature_k", "0.015"):
            expect(page.locator("main")).to_contain_text(text)
        expect(page.locator("main")).not_to_contain_text("hidden-value")
        assert wrong_with(page) == []
        page.close()


def test_a_clock_three_hours_off_changes_no_duration(make_viewer: MakeViewer, tmp_path: Path) -> None:
    for hours in (-3, 3):
        began = time.monotonic()
        with ScriptedAgent(newer(hours * 3600), hours * 3600) as agent:
            viewer = make_viewer({"off": agent.url}, *agent.flags(tmp_path, "off"), name=f"v{hours}").start().log_in()
            page = viewer.html("/a/off/s/s/t/t2")
            elapsed = re.search(r'data-elapsed="([0-9.]+)"', page)
            assert elapsed is not None and 25 < float(elapsed[1]) < 35 + time.monotonic() - began
            assert re.search(r"\b[23] h\b", text_of(page.partition("<h1>")[2])) is None
            assert re.search(r"\b[23] h\b", text_of(viewer.html("/a/off/s/s").partition("<h1>")[2])) is None
            viewer.stop()
