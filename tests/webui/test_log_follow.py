"""A log that grows in a browser: followed, paused, lost with its viewer or agent, and found again."""

from __future__ import annotations

import re
import signal

from playwright.sync_api import Page, Route, expect

from tests.daemon.harness import RealDaemon, until

from .conftest import Watched, streams
from .log_pages import GROWING, follow_button, is_at_end, log_of, look_at, stop, taken_over, top, total
from .viewer import RealViewer


def at_rest(page: Page) -> int:
    """The line at the top, once the wheel has rolled out: in each frame that is drawn it moves on."""
    page.evaluate(
        """() => new Promise((done) => {
          const box = document.querySelector(".lines");
          let [before, same] = [NaN, 0];
          const look = () => {
            same = box.scrollTop === before ? same + 1 : 0;
            before = box.scrollTop;
            if (same < 30) requestAnimationFrame(look);
            else done();
          };
          requestAnimationFrame(look);
        })"""
    )
    return top(page)


def test_a_view_that_follows_stays_at_the_end_and_one_that_is_paused_stays_where_it_is(
    viewer: RealViewer, daemon: RealDaemon, page: Page, watched: Watched
) -> None:
    watched.expected.append("ERR_")
    task = daemon.shell("s", GROWING)
    look_at(page, viewer, task)
    expect(follow_button(page)).to_have_text("Following")
    until(lambda: total(page) > 10_000)
    assert is_at_end(page)
    page.locator(".lines").hover()
    page.mouse.wheel(0, -3000)
    expect(follow_button(page)).to_contain_text("new line")
    held, known = at_rest(page), total(page)
    until(lambda: total(page) > known + 10_000)
    assert top(page) == held
    page.reload()
    taken_over(page)
    expect(follow_button(page)).to_have_attribute("aria-pressed", "false")
    known = total(page)
    until(lambda: total(page) > known + 5_000)
    assert top(page) == held
    viewer.kill9()
    viewer.start()
    known = total(page)
    until(lambda: total(page) > known + 5_000)
    assert top(page) == held
    page.keyboard.press("f")
    expect(follow_button(page)).to_have_text("Following")
    until(lambda: is_at_end(page))
    stop(daemon)
    expect(page.locator(".set")).to_contain_text("the last line")
    expect(page.locator("#log-end")).to_contain_text("completed")
    expect(follow_button(page)).to_be_hidden()


def test_a_viewer_killed_while_one_follows_is_healed_from_to_the_last_byte(
    viewer: RealViewer, daemon: RealDaemon, page: Page, watched: Watched
) -> None:
    watched.expected.append("ERR_")
    task = daemon.shell("s", GROWING)
    look_at(page, viewer, task)
    until(lambda: total(page) > 5_000 and page.locator(".set > .ln").count() > 20)
    viewer.kill9()
    known = total(page)
    expect(page.locator("#connection")).to_contain_text("not live since")
    assert page.locator(".set > .ln").count() > 20
    viewer.start()
    until(lambda: total(page) > known)
    expect(page.locator("#log")).not_to_have_class(re.compile("stale"))
    stop(daemon)
    daemon.wait(task["task_id"])
    (file,) = daemon.data_dir.glob(f"sessions/s/output/{task['task_id']}.1.log")
    count = file.read_bytes().count(b"\n")
    until(lambda: total(page) == count)
    expect(page.locator(f"#L{count}")).to_contain_text("the last line")
    assert viewer.request("GET", log_of(task, "/raw")).body == file.read_bytes()


def test_an_agent_killed_while_one_follows_is_said_to_be_silent_and_then_the_truth(
    viewer: RealViewer, daemon: RealDaemon, page: Page, watched: Watched
) -> None:
    watched.expected.append("502")
    task = daemon.shell("s", GROWING)
    look_at(page, viewer, task)
    until(lambda: total(page) > 3_000 and page.locator(".set > .ln").count() > 20)
    daemon.kill9()
    expect(page.locator("#log-note-agent")).to_contain_text("No more is known since")
    expect(page.locator("#log")).to_have_class(re.compile("stale"))
    expect(page.locator("[data-state=running]")).to_have_count(0)
    assert page.locator(".set > .ln").count() > 20
    daemon.start()
    expect(page.locator("#log-note-agent")).to_have_count(0)
    expect(page.locator("#log-end [data-state=failed]")).to_be_visible()
    expect(follow_button(page)).to_be_hidden()
    (file,) = daemon.data_dir.glob(f"sessions/s/output/{task['task_id']}.1.log")
    until(lambda: total(page) == file.read_bytes().count(b"\n"))


def test_what_is_in_sight_stays_while_the_lines_that_follow_cannot_be_read(
    viewer: RealViewer, daemon: RealDaemon, page: Page, watched: Watched
) -> None:
    watched.expected.append("ERR_")
    task = daemon.shell("s", GROWING)
    look_at(page, viewer, task)
    until(lambda: page.locator(".set > .ln").count() > 20)
    refused: list[Route] = []

    def refuse(route: Route) -> None:
        refused.append(route)
        route.abort()

    page.route("**/lines?*", refuse)
    until(lambda: page.locator("#log-note-lines").count() and len(refused) > 5)
    assert page.locator(".set > .ln").count() > 20
    known = total(page)
    page.unroute_all()
    until(lambda: total(page) > known + 5_000)
    expect(page.locator("#log-note-lines")).to_have_count(0)
    stop(daemon)
    expect(page.locator(".set")).to_contain_text("the last line")


def test_a_log_that_could_not_be_read_at_first_comes_when_its_agent_answers(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    task = daemon.shell("s", GROWING)
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        page.set_extra_http_headers({})  # as a person's, which waits for nobody
        page.goto(viewer.url + log_of(task))
        expect(page.locator("#main [data-unknown=one]")).to_be_visible()
        expect(page.locator("#log")).to_have_count(0)
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    taken_over(page)
    until(lambda: total(page) > 3_000)
    assert is_at_end(page)
    stop(daemon)


def test_the_log_of_a_task_that_waits_begins_when_it_does(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    first = daemon.shell("s", "sleep 100")
    task = daemon.shell("s", "echo here it is")
    look_at(page, viewer, task)
    expect(page.locator("#log-end")).to_contain_text("queued")
    daemon.request("DELETE", f"/tasks/{first['task_id']}")
    expect(page.locator("#L1")).to_contain_text("here it is")
    expect(page.locator("#log-end")).to_contain_text("completed")


def test_nothing_is_followed_any_more_once_the_tab_is_closed(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    task = daemon.shell("s", GROWING)
    look_at(page, viewer, task)
    until(lambda: total(page) > 1_000)
    until(lambda: streams(daemon) == 2)  # the events of its agent, the growth of its log
    page.close()
    until(lambda: streams(daemon) == 0)
    stop(daemon)


def test_a_retry_is_followed_and_each_attempt_can_be_seen(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    command = "echo attempt $AGENTD_ATTEMPT; while [ ! -e go ]; do sleep 0.02; done; [ $AGENTD_ATTEMPT = 2 ]"
    task = daemon.shell("s", command, retry={"max": 1, "on": ["exit_code"], "backoff_s": 0})
    look_at(page, viewer, task)
    expect(page.locator("#L1")).to_contain_text("attempt 1")
    (daemon.data_dir / "sessions" / "s" / "workspace" / "go").touch()
    expect(page.locator("#L1")).to_contain_text("attempt 2")
    expect(page.locator("#log-end")).to_contain_text("completed")
    expect(page.locator("#log-attempts")).to_contain_text("Attempt 2 of 2")
    taken_over(page)
    page.keyboard.press("[")
    expect(page.locator("#L1")).to_contain_text("attempt 1")
    taken_over(page)
    page.keyboard.press("]")
    expect(page.locator("#L1")).to_contain_text("attempt 2")


def test_the_page_of_a_task_shows_its_log_as_it_grows(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    task = daemon.shell("s", GROWING)
    page.goto(viewer.url + log_of(task).removesuffix("/log"))
    taken_over(page)
    until(lambda: total(page) > 5_000)
    assert is_at_end(page)
    page.keyboard.press("f")
    expect(page).to_have_url(re.compile("follow=0"))
    stop(daemon)
    expect(page.locator("#log-end")).to_contain_text("completed")
    page.get_by_role("link", name="Whole log").click()
    expect(page.locator("h1")).to_contain_text("Log of")


def test_a_log_that_outgrows_one_page_becomes_a_window(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    task = daemon.shell("s", "seq 1500; while [ ! -e stop ]; do sleep 0.02; done; seq 9000; exec sleep 100")
    look_at(page, viewer, task)
    expect(page.locator(".set > .ln")).to_have_count(1500)
    stop(daemon)
    until(lambda: total(page) == 10_500)
    expect(page.locator(".set > .ln").last).to_have_id("L10500")
    assert page.locator(".set > .ln").count() < 300
    assert is_at_end(page)
