"""The agents: whether each answers, and how it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.daemon.harness import RealDaemon, until
from webui.pages.agents import clock

from .conftest import MakeDaemon, MakeViewer, Watched, enter
from .odd_agent import OddAgent, http_answer
from .scripted_agent import ScriptedAgent
from .viewer import RealViewer

#: What a browser complains of while its viewer is gone.
LOST = ["Failed to load resource", "net::ERR_"]


def test_an_agent_tells_what_it_is_and_how_it_is(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = daemon.shell("build", "sleep 600", name="steady")
    daemon.state(task["task_id"], "running")
    row = viewer.get("/agents")["data"][0]
    status = daemon.get("/status")
    assert (row["agent"], row["source"], row["contact"]["status"]) == ("one", "flag", "fresh")
    for field in ("version", "boot_id", "started_at", "sessions"):
        assert row["status"][field] == status[field]
    assert 0 <= row["uptime_s"] < 3600
    assert abs(row["contact"]["skew_ms"]) < 1000
    page = viewer.html("/agents")
    for text in (status["boot_id"], status["version"], "steady", "1 session<", "its clock agrees", "<meter", "free of"):
        assert text in page


def test_agents_with_problems_come_first_and_none_disappears(
    make_daemon: MakeDaemon, make_viewer: MakeViewer, tmp_path: Path
) -> None:
    daemon = make_daemon().start()
    status = {"agent_id": "a", "state": "draining", "disk": {"free_bytes": 0, "total_bytes": 100, "full": True}}
    html = OddAgent(http_answer(b"<html>", "text/html"))
    with html, ScriptedAgent({"/status": status}) as draining:
        agents: dict[str, str | Path] = {"a-fine": daemon.data_dir, "b-draining": draining.url}
        agents |= {"c-html": html.url, "d-gone": "http://127.0.0.1:9", "e-never": tmp_path / "never"}
        flags = [*draining.flags(tmp_path, "b-draining"), *html.flags(tmp_path, "c-html")]
        viewer = make_viewer(agents, *flags).start().log_in()
        rows = viewer.get("/agents")["data"]
        assert [(row["agent"], row["contact"]["status"]) for row in rows] == [
            ("c-html", "incompatible"),
            ("d-gone", "unauthorized"),
            ("e-never", "unreachable"),
            ("b-draining", "fresh"),
            ("a-fine", "fresh"),
        ]
        assert "the last write found no room" in viewer.html("/agents")


def test_a_clock_that_is_off_is_told_in_words(make_viewer: MakeViewer, tmp_path: Path) -> None:
    status = {"agent_id": "a", "state": "idle", "started_at": "not a time", "disk": {"free_bytes": "x"}, "current": 5}
    with ScriptedAgent({"/status": status}, clock_s=3 * 3600 + 5) as agent:
        viewer = make_viewer({"ahead": agent.url}, *agent.flags(tmp_path, "ahead")).start().log_in()
        page = viewer.html("/agents")
    assert "its clock is 3 h ahead" in page
    assert "ages of its tasks are off by as much" in page


def test_what_a_newer_agent_tells_of_itself_is_shown_as_it_is(make_viewer: MakeViewer, tmp_path: Path) -> None:
    status = {"agent_id": "a", "state": "dreaming", "mood": "good", "gpus": [{"name": "<b>"}]}
    with ScriptedAgent({"/status": status}) as agent:
        viewer = make_viewer({"new": agent.url}, *agent.flags(tmp_path, "new")).start().log_in()
        page = viewer.html("/agents")
    assert 'data-state="dreaming"' in page
    assert "<dt>mood</dt><dd>good" in re.sub(r"\n", "", page)
    assert "&lt;b&gt;" in page


@pytest.mark.parametrize(
    ("skew_ms", "words"),
    [
        (None, "its clock is unknown"),
        (0, "its clock agrees with the viewer's"),
        (-999, "its clock agrees with the viewer's"),
        (-90_000, "its clock is 1 min 30 s behind"),
        (10_800_000, "its clock is 3 h ahead"),
    ],
)
def test_how_a_clock_stands_is_said_in_words(skew_ms: int | None, words: str) -> None:
    assert clock(skew_ms) == words


def test_a_typing_mistake_in_webui_yaml_is_shown_and_no_agent_disappears(
    make_viewer: MakeViewer, daemon: RealDaemon, tmp_path: Path
) -> None:
    config = tmp_path / "webui.yaml"
    config.write_text(f"agents: [{{name: filed, data_dir: {daemon.data_dir}}}]")
    viewer = make_viewer({}, "--config", str(config)).start().log_in()
    assert [(row["agent"], row["source"]) for row in viewer.get("/agents")["data"]] == [("filed", "file")]
    config.write_text("agents: [{name: filed, nonsense: 1}]")
    page = until(lambda: text if "is not taken in" in (text := viewer.html("/agents")) else None)
    assert "nonsense" in page
    assert [row["agent"] for row in viewer.get("/agents")["data"]] == ["filed"]


def test_an_agent_that_is_killed_turns_unreachable_with_the_reason_and_the_others_stay(
    make_daemon: MakeDaemon, make_viewer: MakeViewer, context: BrowserContext
) -> None:
    names = ("one", "two", "three")
    daemons = {name: make_daemon(name).start() for name in names}
    viewer = make_viewer({name: daemon.data_dir for name, daemon in daemons.items()}).start().log_in()
    enter(context, viewer)
    page = context.new_page()
    page.goto(f"{viewer.url}/agents")
    expect(page.locator("h2 [data-state=fresh]")).to_have_count(3)
    daemons["two"].kill9()
    dead = page.locator("#row-two")
    expect(dead.locator("h2 [data-state=unreachable]")).to_be_visible()
    expect(dead).to_contain_text(re.compile(r"tried (now|\d+ s ago)"))
    expect(dead.locator("dl [data-state=unknown]")).to_be_visible()
    expect(dead).to_contain_text(re.compile("has ended|does not run|refused"))
    expect(page.locator("h2 [data-state=fresh]")).to_have_count(2)
    expect(page.locator("#main section").first).to_have_id("row-two")
    daemons["two"].start()
    expect(page.locator("h2 [data-state=fresh]")).to_have_count(3)


@pytest.mark.parametrize("path", ["/agents", "/workers", "/queue"])
def test_numbers_of_what_goes_on_go_with_the_viewer_that_vouched_for_them(
    viewer: RealViewer, daemon: RealDaemon, page: Page, watched: Watched, path: str
) -> None:
    watched.expected += LOST
    for _ in range(2):
        daemon.shell("build", "sleep 100")
    page.goto(viewer.url + path)
    passing = page.locator("main", has_text=re.compile("1 running|1 of at most|1 queued"))
    expect(passing).to_be_visible()
    viewer.kill9()
    expect(page.locator("#status")).to_contain_text("not live since")
    expect(passing).to_have_count(0)
