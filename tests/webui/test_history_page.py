"""History: the tasks of all agents in one list, filtered as the agents filter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.daemon.harness import RealDaemon

from .conftest import MakeViewer, daemons, enter, viewers
from .odd_agent import OddAgent, http_answer
from .scripted_agent import ScriptedAgent
from .viewer import RealViewer


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealViewer]:
    """A viewer over two daemons with ended tasks, which took turns, and one that runs."""
    place = tmp_path_factory.mktemp("two")
    with daemons(place) as make_daemon, viewers(place) as make_viewer:
        one, other = make_daemon("one").start(), make_daemon("other").start()
        for number in range(3):
            for daemon, command in ((one, "true"), (other, "exit 3")):
                task = daemon.shell("build", command, name=f"step {number}", labels={"n": str(number)}, queue="default")
                daemon.wait(task["task_id"])
        running = one.shell("build", "sleep 600")
        one.state(running["task_id"], "running")
        yield make_viewer({"one": one.data_dir, "other": other.data_dir}).start().log_in()


def shown(viewer: RealViewer, query: str = "") -> list[tuple[str, str]]:
    return [(row["agent"], row["name"]) for row in viewer.get(f"/history{query}")["data"]]


def test_tasks_that_ended_are_listed_over_all_agents_latest_first(two: RealViewer) -> None:
    assert shown(two) == [(agent, f"step {number}") for number in (2, 1, 0) for agent in ("other", "one")]
    assert shown(two, "?sort=created_at")[0] == ("one", "step 0")


def test_every_filter_is_that_of_the_agents(two: RealViewer) -> None:
    assert shown(two, "?cause=exit_code") == [("other", f"step {number}") for number in (2, 1, 0)]
    assert shown(two, "?state=completed&agent=other") == []
    assert shown(two, "?label=n%3D1") == [("other", "step 1"), ("one", "step 1")]
    assert shown(two, "?q=STEP+0&kind=shell&trigger=api&queue=default&agent=one") == [("one", "step 0")]
    assert shown(two, "?trigger=schedule") == []
    assert [row["state"] for row in two.get("/history?state=running")["data"]] == ["running"]
    assert len(shown(two, "?state=any")) == 7


def test_a_day_is_a_limit_in_time_and_the_last_one_is_listed(two: RealViewer) -> None:
    today = datetime.now(UTC).date()
    yesterday, tomorrow = today - timedelta(days=1), today + timedelta(days=1)
    assert len(shown(two, f"?since={yesterday}&until={tomorrow}")) == 6
    assert len(shown(two, f"?until={tomorrow}")) == 6
    assert shown(two, f"?since={today + timedelta(days=2)}") == []
    assert shown(two, f"?until={yesterday - timedelta(days=1)}") == []
    exact = quote(two.get("/history")["data"][0]["created_at"])
    assert shown(two, f"?since={exact}") == [("other", "step 2")]
    assert len(shown(two, f"?until={exact}")) == 5


@pytest.mark.parametrize("field", ["since", "until"])
def test_a_day_that_is_none_is_refused_by_name(viewer: RealViewer, field: str) -> None:
    for bad in ("2030-02-31", "0000-00-00", "9999-99-99"):
        answer = viewer.request("GET", f"/history?{field}={bad}", Accept="application/json")
        assert answer.status == 400
        assert answer.json["detail"].startswith(f"{field}: there is no day {bad}")


def test_pages_follow_one_another_without_a_hole_or_a_double(two: RealViewer) -> None:
    found: list[str] = []
    path = "/history?limit=2"
    while True:
        page = two.get(path)
        found += [row["task_id"] for row in page["data"]]
        if page["next"] is None:
            break
        assert f"cursor={page['next']}" in two.html(path)
        path = f"/history?limit=2&cursor={page['next']}"
    assert len(found) == len(set(found)) == 6


def test_a_filter_that_only_an_older_agent_refuses_is_said_to_be_its_trouble(
    daemon: RealDaemon, make_viewer: MakeViewer, tmp_path: Path
) -> None:
    daemon.wait(daemon.shell("build", "true")["task_id"])
    body = b'{"code": "malformed", "status": 400, "detail": "trigger is not known"}'
    with OddAgent(http_answer(body, "application/problem+json", "400 Bad Request")) as older:
        agents = {"one": daemon.data_dir, "odd": older.url}
        viewer = make_viewer(agents, *older.flags(tmp_path)).start().log_in()
        page = viewer.get("/history?trigger=api")
        assert [row["agent"] for row in page["data"]] == ["one"]
        assert page["partial"] is True
        trouble = {contact["agent"]: contact for contact in page["agents"]}["odd"]
        assert (trouble["status"], trouble["reason_code"]) == ("error", "not_taken")
        assert "trigger is not known" in viewer.html("/history?trigger=api")


def test_a_filter_that_no_agent_takes_is_refused_with_what_they_take(viewer: RealViewer) -> None:
    answer = viewer.request("GET", "/history?state=nowhere", Accept="application/json")
    assert answer.status == 400
    assert "completed" in answer.json["detail"]


def test_what_a_newer_agent_tells_is_shown_as_it_is(make_viewer: MakeViewer, tmp_path: Path) -> None:
    rows = [
        {"task_id": "t1", "session_id": "s", "state": "evicted", "kind": "dream", "cause": {"code": "moved"}},
        {"task_id": "t2", "state": 7, "cause": "because", "trigger": "moon", "spec": [], "duration_s": "long"},
        {"task_id": "t3", "session_id": "<b>", "state": "failed", "labels": [1], "name": "<script>", "wait_s": {}},
    ]
    with ScriptedAgent({"/tasks": {"data": rows, "next": None}}) as newer:
        viewer = make_viewer({"new": newer.url}, *newer.flags(tmp_path, "new")).start().log_in()
        page = viewer.html("/history")
    for text in ("evicted", "dream", "moved", "because", "moon", "&lt;script&gt;", "/a/new/s/%3Cb%3E/t/t3"):
        assert text in page


def test_an_empty_history_says_what_to_do(viewer: RealViewer) -> None:
    assert "No task has ended yet" in viewer.html("/history")
    assert "Nothing matches" in viewer.html("/history?q=nothing")


def test_a_task_that_ends_appears_in_the_open_history(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    page.goto(f"{viewer.url}/history")
    expect(page.get_by_text("No task has ended yet")).to_be_visible()
    task = daemon.shell("build", "exit 3", name="tests")
    row = page.locator(f"#row-one-{task['task_id']}")
    expect(row.locator("[data-state=failed]")).to_be_visible()
    expect(row).to_contain_text("exited with code 3")
    page.get_by_label("Cause").fill("ok")
    daemon.wait(daemon.shell("build", "true", name="again")["task_id"])
    expect(page.get_by_role("link", name="again")).to_be_visible()
    expect(page.get_by_label("Cause")).to_have_value("ok")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile("cause=ok"))
    expect(row).to_have_count(0)
    expect(page.get_by_role("link", name="again")).to_be_visible()


def test_a_table_of_many_columns_moves_no_screen_sideways_and_breaks_no_short_word(
    make_viewer: MakeViewer, daemon: RealDaemon, context: BrowserContext
) -> None:
    daemon.wait(daemon.shell("build", "exit 3", name="a name of some length, as people give")["task_id"])
    viewer = make_viewer({"one": daemon.data_dir, "gone": "http://127.0.0.1:9"}).start().log_in()
    enter(context, viewer)
    page = context.new_page()
    page.goto(f"{viewer.url}/history")
    tall = """each => {
        const range = document.createRange();
        range.selectNodeContents(each);
        return range.getBoundingClientRect().height;
    }"""
    kind = page.get_by_role("cell", name="shell", exact=True)
    line = page.evaluate("parseFloat(getComputedStyle(document.body).lineHeight)")
    for width in (1280, 900, 810, 790, 500):
        page.set_viewport_size({"width": width, "height": 800})
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), width
        assert kind.evaluate(tall) < 1.5 * line, width
