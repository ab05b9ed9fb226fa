"""An open page: what changes, what stays in the middle of a change, and what it costs those it asks."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.daemon.harness import RealDaemon, until

from .accessible import wrong_with
from .bad_agents import BadAgent, session
from .conftest import VISIBILITY, MakeViewer, Watched, enter, show, streams
from .viewer import RealViewer


def turn(page: Page, condition: Callable[[], bool]) -> None:
    """Let the browser's events come until it is so."""

    def so() -> bool:
        page.wait_for_timeout(10)
        return condition()

    until(so)


def test_typed_text_focus_and_scroll_position_survive_a_change(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    for number in range(40):
        daemon.wait(daemon.shell(f"old-{number:02}", "true")["task_id"])
    page.goto(viewer.url)
    rows = page.locator("[data-row]")
    expect(rows).to_have_count(40)
    search = page.locator("[data-search]")
    search.fill("half a wo")
    page.evaluate(
        """() => {
          const search = document.querySelector("[data-search]");
          search.setSelectionRange(2, 4);
          search.focus();
          scrollTo(0, 300);
          document.getElementById("row-one-old-05").mine = "the same element";
        }"""
    )
    before = page.evaluate("document.getElementById('row-one-old-05').getBoundingClientRect().top")
    daemon.shell("new", "sleep 100")
    expect(page.locator("#row-one-new [data-state=working]")).to_be_attached()
    expect(rows).to_have_count(41)
    expect(search).to_be_focused()
    expect(search).to_have_value("half a wo")
    assert page.evaluate("[document.activeElement.selectionStart, document.activeElement.selectionEnd]") == [2, 4]
    assert page.evaluate("document.getElementById('row-one-old-05').mine") == "the same element"
    after = page.evaluate("document.getElementById('row-one-old-05').getBoundingClientRect().top")
    assert abs(after - before) < 2, "the row that was looked at has moved"


def test_text_that_is_selected_stays_selected(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    daemon.wait(daemon.shell("old", "true")["task_id"])
    page.goto(viewer.url)
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#row-one-old a'))")
    daemon.shell("new", "sleep 100")
    expect(page.locator("#row-one-new")).to_be_visible()
    assert page.evaluate("getSelection().toString()") == "old"


def test_the_row_that_the_keyboard_is_at_stays_so(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    daemon.wait(daemon.shell("old", "true")["task_id"])
    page.goto(viewer.url)
    page.locator("body").press("j")
    expect(page.locator("#row-one-old")).to_have_class("here")
    daemon.shell("new", "sleep 100")
    expect(page.locator("#row-one-new")).to_be_visible()
    expect(page.locator("#row-one-old")).to_have_class("here")


def test_a_hidden_tab_has_no_stream_and_is_true_when_it_is_seen_again(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    page.add_init_script(VISIBILITY)
    page.goto(viewer.url)
    until(lambda: streams(daemon) == 1)
    show(page, "hidden")
    until(lambda: streams(daemon) == 0)
    daemon.wait(daemon.shell("unseen", "true")["task_id"])
    expect(page.locator("[data-row]")).to_have_count(0)
    show(page, "visible")
    expect(page.locator("#row-one-unseen [data-state=idle]")).to_be_visible()
    until(lambda: streams(daemon) == 1)


def test_twelve_tabs_load_and_leave_no_stream_behind(
    viewer: RealViewer, daemon: RealDaemon, context: BrowserContext
) -> None:
    daemon.shell("build", "sleep 100")
    enter(context, viewer)
    context.add_init_script(VISIBILITY)
    pages: list[Page] = []
    for _ in range(12):
        if pages:
            show(pages[-1], "hidden")  # as a browser does that opens another tab
        pages.append(context.new_page())
        pages[-1].goto(viewer.url)
        expect(pages[-1].locator("#row-one-build [data-state=working]")).to_be_visible()
    until(lambda: streams(daemon) == 1)
    for page in pages:
        page.close()
    until(lambda: streams(daemon) == 0)


def test_twelve_windows_that_are_all_seen_load_and_each_shows_what_changes(
    viewer: RealViewer, daemon: RealDaemon, context: BrowserContext
) -> None:
    enter(context, viewer)
    pages: list[Page] = []
    for _ in range(12):
        pages.append(context.new_page())
        pages[-1].goto(viewer.url)
    task = daemon.shell("build", "sleep 100")
    for page in pages:
        expect(page.locator("#row-one-build [data-state=working]")).to_be_visible()
    assert streams(daemon) <= 4
    daemon.request("DELETE", f"/tasks/{task['task_id']}")
    for page in pages:
        expect(page.locator("#row-one-build [data-state=idle]")).to_be_visible()
    for page in pages[:10]:
        page.close()
    until(lambda: streams(daemon) == 2)  # those that are left have one each, and keep it


def test_changes_during_an_answer_are_asked_for_once_more_and_not_once_each(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    page.goto(viewer.url)
    expect(page.get_by_text("No session yet")).to_be_visible()
    until(lambda: streams(daemon) == 1)
    page.evaluate("import(document.querySelector('script[src*=live]').src).then((live) => live.refresh())")
    asked: list[Route] = []
    page.route(f"{viewer.url}/", lambda route: asked.append(route))
    daemon.wait(daemon.shell("a", "true")["task_id"])
    turn(page, lambda: bool(asked))
    for name in ("b", "c", "d", "e"):
        daemon.wait(daemon.shell(name, "true")["task_id"])
        page.wait_for_timeout(150)  # more than a tick
    assert len(asked) == 1
    asked[0].continue_()
    turn(page, lambda: len(asked) > 1)
    assert len(asked) == 2
    page.unroute_all()
    expect(page.locator("[data-row]")).to_have_count(5)


def test_a_page_that_the_viewer_cannot_make_is_said_and_asked_for_again(
    viewer: RealViewer, daemon: RealDaemon, page: Page, watched: Watched
) -> None:
    watched.expected += ["Failed to load resource"]
    daemon.shell("build", "sleep 100")
    page.goto(viewer.url)
    expect(page.locator("#row-one-build [data-state=working]")).to_be_visible()
    page.route(f"{viewer.url}/", lambda route: route.fulfill(status=500, body="<h1>no</h1>", content_type="text/html"))
    daemon.wait(daemon.shell("other", "true")["task_id"])
    expect(page.locator("#status")).to_contain_text("the viewer answered 500")
    expect(page.locator("#row-one-build [data-state=unknown]")).to_be_visible()
    assert wrong_with(page) == []
    page.unroute(f"{viewer.url}/")
    expect(page.locator("#row-one-build [data-state=working]")).to_be_visible()
    expect(page.locator("#row-one-other [data-state=idle]")).to_be_visible()
    expect(page.locator("#status")).not_to_contain_text("500")


def test_a_login_that_ends_leads_to_the_login_page(
    viewer: RealViewer, daemon: RealDaemon, page: Page, context: BrowserContext, watched: Watched
) -> None:
    watched.expected += ["Failed to load resource", "net::ERR_"]
    page.goto(viewer.url)
    until(lambda: streams(daemon) == 1)
    context.clear_cookies()
    daemon.wait(daemon.shell("build", "true")["task_id"])
    expect(page).to_have_url(re.compile("/login"))


def test_a_slow_agent_is_filled_in_when_it_answers_and_holds_up_nobody(
    tmp_path: Path, make_viewer: MakeViewer, context: BrowserContext
) -> None:
    with BadAgent("slow", sessions=1) as slow, BadAgent("quick", sessions=1) as quick:
        slow.mode = "silent"
        targets: dict[str, str | Path] = {"slow": slow.url, "quick": quick.url}
        viewer = make_viewer(targets, *slow.flags(tmp_path), *quick.flags(tmp_path)).start().log_in()
        enter(context, viewer)
        page = context.new_page()
        page.goto(viewer.url)
        expect(page.locator("[data-unknown=slow]")).to_contain_text("slow")
        until(lambda: quick.streams)
        quick.sessions["quick-1"] = session("quick-1", 5, state="working")
        quick.tell("task.started", session_id="quick-1", task_id="t")
        expect(page.locator("#row-quick-quick-1 [data-state=working]")).to_be_visible()
        expect(page.locator("[data-unknown=slow]")).to_be_visible()
        slow.mode = "good"
        expect(page.locator("#row-slow-slow-0")).to_be_visible()
        expect(page.locator("[data-unknown]")).to_have_count(0)
        page.close()


def test_one_that_always_takes_its_time_is_shown_while_another_never_rests(
    tmp_path: Path, make_viewer: MakeViewer, context: BrowserContext
) -> None:
    with BadAgent("late", sessions=1) as late, BadAgent("busy", sessions=1) as busy:
        late.mode = "late"
        targets: dict[str, str | Path] = {"late": late.url, "busy": busy.url}
        viewer = make_viewer(targets, *late.flags(tmp_path), *busy.flags(tmp_path)).start().log_in()
        enter(context, viewer)
        page = context.new_page()
        page.goto(viewer.url)
        until(lambda: busy.streams)
        done = threading.Event()

        def never_rest() -> None:
            while not done.wait(0.1):
                busy.tell("task.started", session_id="busy-0", task_id="t")

        thread = threading.Thread(target=never_rest)
        thread.start()
        try:
            expect(page.locator("#row-late-late-0 [data-state=idle]")).to_be_visible()
        finally:
            done.set()
            thread.join()
        page.close()


def test_an_agent_that_comes_into_the_file_appears_on_an_open_page_and_one_that_leaves_goes(
    tmp_path: Path, make_viewer: MakeViewer, context: BrowserContext
) -> None:
    with BadAgent("a", sessions=1) as a, BadAgent("b", sessions=1) as b:
        a.flags(tmp_path)
        b.flags(tmp_path)
        file = tmp_path / "webui.yaml"

        def write(*agents: BadAgent) -> None:
            rows = [
                f"{{name: {each.name}, url: '{each.url}', token_file: '{tmp_path}/{each.name}.token'}}"
                for each in agents
            ]
            file.write_text(f"agents: [{', '.join(rows)}]")

        write(a)
        viewer = make_viewer({}, "--config", str(file)).start().log_in()
        enter(context, viewer)
        page = context.new_page()
        page.goto(viewer.url)
        expect(page.locator("[data-row]")).to_have_count(1)
        write(a, b)
        expect(page.locator("#row-b-b-0")).to_be_visible()
        write(b)
        expect(page.locator("[data-row]")).to_have_count(1)
        page.close()


@pytest.mark.parametrize("mode", ["stream_flood", "stream_closes", "stream_endless_line", "stream_garbage"])
def test_a_bad_stream_of_one_agent_does_not_keep_the_page_from_the_others(
    tmp_path: Path, make_viewer: MakeViewer, context: BrowserContext, mode: str
) -> None:
    with BadAgent("bad", sessions=1) as bad, BadAgent("good", sessions=1) as good:
        bad.stream_mode = mode.removeprefix("stream_")
        targets: dict[str, str | Path] = {"bad": bad.url, "good": good.url}
        viewer = make_viewer(targets, *bad.flags(tmp_path), *good.flags(tmp_path)).start().log_in()
        enter(context, viewer)
        page = context.new_page()
        page.goto(viewer.url)
        until(lambda: good.streams)
        good.sessions["good-0"]["state"] = "working"
        good.tell("task.started", session_id="good-0", task_id="t")
        expect(page.locator("#row-good-good-0 [data-state=working]")).to_be_visible()
        expect(page.locator("#row-bad-bad-0")).to_be_visible()
        page.close()


def test_details_that_were_opened_stay_open(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    daemon.wait(daemon.shell("build", "true")["task_id"])
    page.goto(f"{viewer.url}/a/one/s/build")
    details = page.locator("details:not([open])").first
    details.locator("summary").click()
    opened = page.locator("details[open]")
    expect(opened).to_have_count(1)
    task = daemon.shell("build", "sleep 100")
    expect(page.locator("[data-state=running]").first).to_be_visible()
    expect(opened).to_have_count(1)
    daemon.request("DELETE", f"/tasks/{task['task_id']}")
    expect(page.locator("[data-state=cancelled]").first).to_be_visible()
    expect(opened).to_have_count(1)
