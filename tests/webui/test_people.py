"""For people: nobody is locked out by a colour, a narrow screen, a missing mouse or a missing script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.daemon.harness import RealDaemon, until

from .accessible import wrong_with
from .conftest import PATIENT, daemons, enter, viewers
from .viewer import RealViewer


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealViewer, list[str]]]:
    """A viewer over an agent with every kind of state and one that is gone, and the paths of all its pages."""
    place = tmp_path_factory.mktemp("seeded")
    with daemons(place) as make_daemon, viewers(place) as make_viewer:
        daemon = make_daemon(workers={"min": 1, "max": 2}).start()
        paths = seed(daemon)
        yield make_viewer({"one": daemon.data_dir, "gone": "http://127.0.0.1:9"}).start().log_in(), paths


def seed(daemon: RealDaemon) -> list[str]:
    """Tasks in every state; the paths of all pages."""
    daemon.request("POST", "/sessions", {"session_id": "build", "title": "A <b>build</b>", "labels": {"team": "web"}})
    colours = "while [ ! -e go ]; do sleep 0.01; done; "
    colours += r"printf '\033[31mred\033[0m \033[38;5;226myellow\033[0m \033[2mdim\033[0m\n'; exit 3"
    failed = daemon.shell("build", colours, retry={"max": 1, "backoff_s": 0.01, "on": ["exit_code"]})
    daemon.shell("build", "true", needs=[failed["task_id"]])
    (daemon.data_dir / "sessions/build/workspace/go").touch()
    daemon.wait(failed["task_id"])
    slow = daemon.shell("build", "sleep 60", timeout_s=0.2)
    daemon.wait(slow["task_id"])
    done = daemon.shell("other", 'echo \'{"n": 1}\' > "$AGENTD_RESULT"')
    daemon.wait(done["task_id"])
    running = daemon.shell("other", "echo working; sleep 600", name="steady")
    daemon.state(running["task_id"], "running")
    daemon.request("POST", f"/tasks/{running['task_id']}/progress", {"progress": 40, "phase": "fetch"})
    waiting = daemon.shell("other", "true", needs=[running["task_id"]])
    daemon.request("PUT", "/sessions/build/artifacts/report.txt", b"fine", Content_Type="text/plain")
    tasks = [f"/a/one/s/{task['session_id']}/t/{task['task_id']}" for task in (failed, slow, done, running, waiting)]
    return [
        *("/", "/history", "/queue", "/workers", "/agents", "/analytics", "/settings", "/new?agent=one&kind=shell"),
        *("/a/one/s/build", "/a/one/s/other", *tasks, f"{tasks[0]}?attempt=1", f"{tasks[0]}/log", f"{tasks[3]}/log"),
        *("/login", "/nowhere", "/a/gone/s/x", "/a/nobody/s/x", "/?q=nothing-has-this-name"),
    ]


def test_every_page_is_accessible_and_fits(browser: Browser, seeded: tuple[RealViewer, list[str]]) -> None:
    viewer, paths = seeded
    with browser.new_context(extra_http_headers=PATIENT) as context:
        enter(context, viewer)
        page = context.new_page()
        for path in paths:
            page.goto(viewer.url + path)
            assert wrong_with(page) == [], path
            assert page.locator("h1").count() == 1, path


def test_the_pages_can_be_walked_without_a_mouse(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    for name in ("first", "second", "third"):
        daemon.wait(daemon.shell(name, "true")["task_id"])
    page.goto(f"{viewer.url}/?sort=created_at")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator("tr.here")).to_contain_text("second")
    page.keyboard.press("k")
    expect(page.locator("tr.here")).to_contain_text("first")
    daemon.wait(daemon.shell("fourth", "true")["task_id"])
    expect(page.get_by_text("fourth")).to_be_visible()
    expect(page.locator("tr.here")).to_contain_text("first")
    page.keyboard.press("/")
    expect(page.locator("[data-search]")).to_be_focused()
    page.keyboard.type("jk?")
    expect(page.locator("[data-search]")).to_have_value("jk?")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("next row")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/a/one/s/second")


def test_the_skip_link_and_the_order_of_focus_lead_into_the_page(page: Page, viewer: RealViewer) -> None:
    page.goto(viewer.url)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_every_page_can_be_read_without_scripts(browser: Browser, seeded: tuple[RealViewer, list[str]]) -> None:
    viewer, paths = seeded
    with browser.new_context(java_script_enabled=False, extra_http_headers=PATIENT) as context:
        enter(context, viewer)
        page = context.new_page()
        for path in paths:
            page.goto(viewer.url + path)
            expect(page.locator("h1")).to_be_visible()
        page.goto(f"{viewer.url}/a/one/s/build")
        page.locator("tr", has_text="printf").locator("a[data-go]").first.click()
        expect(page.locator("main")).to_contain_text("exited with code 3")


def test_every_page_has_a_twin_in_json(seeded: tuple[RealViewer, list[str]]) -> None:
    viewer, paths = seeded
    for path in [path for path in paths if path != "/login"]:
        answer = viewer.request("GET", path, Accept="application/json")
        assert answer.headers["content-type"].partition(";")[0] in ("application/json", "application/problem+json"), (
            path
        )
        assert isinstance(answer.json, dict)


def test_states_are_told_by_icon_word_and_colour(seeded: tuple[RealViewer, list[str]], context: BrowserContext) -> None:
    viewer, _ = seeded
    enter(context, viewer)
    page = context.new_page()
    page.goto(f"{viewer.url}/a/one/s/build")
    failed = page.locator("#main [data-state=failed]").first
    assert failed.locator("[aria-hidden]").inner_text().strip()
    assert "failed" in failed.inner_text()
    grey = page.evaluate("getComputedStyle(document.body).color")
    assert failed.evaluate("each => getComputedStyle(each).color") != grey


def test_only_the_status_line_speaks_and_it_speaks_of_the_end(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    page.goto(viewer.url)
    assert page.locator("[aria-live]").count() == 1
    task = daemon.shell("build", "sleep 600")
    expect(page.locator("#status")).to_contain_text("1 running")
    daemon.request("DELETE", f"/tasks/{task['task_id']}")
    until(lambda: "0 running" in page.locator("#status").inner_text())
