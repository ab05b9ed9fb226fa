"""What an open page shows when something dies: never that a task runs which does not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.daemon.harness import RealDaemon, until

from .bad_agents import BadAgent, session
from .conftest import MakeViewer, Watched, enter
from .viewer import RealViewer

#: What browsers write to the console when a connection is lost, which these tests mean to happen.
LOST = ["Failed to load resource", "net::ERR_"]

#: Writes down, at every change of the page, which states it shows: [[milliseconds, [state, …]], …].
_RECORDER = """
window.seen = [];
const look = () => window.seen.push([Date.now(), [...document.querySelectorAll("#main [data-state]")]
  .map((each) => each.dataset.state)]);
addEventListener("DOMContentLoaded", () => {
  look();
  new MutationObserver(look).observe(document, {
    subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ["data-state", "class"],
  });
});
"""
ALIVE = {"running", "working"}


def open_page(context: BrowserContext, url: str) -> Page:
    """A tab that records the states it shows."""
    page = context.new_page()
    page.add_init_script(_RECORDER)
    page.goto(url)
    return page


def states_since(page: Page, at: float) -> list[list[str]]:
    """What was shown at each change since a time, in epoch seconds; first what stood then."""
    seen: list[tuple[float, list[str]]] = page.evaluate("window.seen")
    before = [states for when, states in seen if when < at * 1000]
    return [*before[-1:], *[states for when, states in seen if when >= at * 1000]]


def never_alive_once_unknown(page: Page, at: float) -> None:
    """Since it was told, the page said of no task that it runs."""
    shown = states_since(page, at)
    told = next(number for number, states in enumerate(shown) if "unknown" in states)
    assert not [states for states in shown[told:] if ALIVE & set(states)]


@contextmanager
def stopped(daemon: RealDaemon) -> Iterator[None]:
    """A daemon that does nothing, and does not end."""
    assert daemon.process is not None
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)


def test_a_task_that_ended_before_the_first_look_is_shown_as_ended(
    viewer: RealViewer, daemon: RealDaemon, context: BrowserContext
) -> None:
    task = daemon.wait(daemon.shell("quick", "true")["task_id"])
    enter(context, viewer)
    for path in ("/", "/a/one/s/quick", f"/a/one/s/quick/t/{task['task_id']}"):
        page = open_page(context, viewer.url + path)
        expect(page.locator("#main [data-state]").first).to_be_visible()
        assert not [states for states in states_since(page, 0) if ALIVE & set(states)]
        page.close()


def test_a_task_that_ends_between_the_page_and_its_stream_is_shown_as_ended(
    viewer: RealViewer, daemon: RealDaemon, context: BrowserContext
) -> None:
    task = daemon.shell("race", "sleep 100")
    daemon.state(task["task_id"], "running")

    def end_it_first(route: Route) -> None:
        daemon.request("DELETE", f"/tasks/{task['task_id']}")
        daemon.wait(task["task_id"])
        route.continue_()

    enter(context, viewer)
    page = context.new_page()
    page.route("**/live*", end_it_first)
    page.goto(viewer.url)
    expect(page.locator("#row-one-race [data-state=idle]")).to_be_visible()


def test_an_agent_that_fails_while_it_is_watched_is_unknown_until_it_answers(
    tmp_path: Path, make_viewer: MakeViewer, context: BrowserContext
) -> None:
    with BadAgent("bad", running=1) as agent, BadAgent("good", sessions=1) as other:
        agent.sessions["build"] = session("build", 1, state="working")
        targets: dict[str, str | Path] = {"bad": agent.url, "good": other.url}
        viewer = make_viewer(targets, *agent.flags(tmp_path), *other.flags(tmp_path))
        enter(context, viewer.start().log_in())
        page = open_page(context, viewer.url)
        state = page.locator("#row-bad-build [data-state]")
        expect(state).to_have_attribute("data-state", "working")
        for mode in ("error_500", "half_json", "closes", "token_rejected"):
            at = time.time()
            agent.mode = mode
            agent.cut()
            expect(state).to_have_attribute("data-state", "unknown")
            expect(page.locator("[data-unknown=bad]")).to_contain_text("Last heard of at")
            expect(page.locator("#status")).to_contain_text("0 running, 0 queued; 1 of 2 agents unknown")
            expect(page.locator("#row-good-good-0 [data-state=idle]")).to_be_visible()
            never_alive_once_unknown(page, at)
            agent.mode = "good"
            expect(state).to_have_attribute("data-state", "working")
            expect(page.locator("[data-unknown]")).to_have_count(0)
        page.close()


def test_an_agent_that_lost_its_stream_and_then_fails_is_not_taken_at_its_last_word(
    tmp_path: Path, make_viewer: MakeViewer, context: BrowserContext
) -> None:
    with BadAgent("bad", running=1) as agent:
        agent.sessions["build"] = session("build", 1, state="working")
        targets: dict[str, str | Path] = {"bad": agent.url}
        viewer = make_viewer(targets, *agent.flags(tmp_path))
        enter(context, viewer.start().log_in())
        agent.stream_mode = "refused"
        page = open_page(context, viewer.url)
        state = page.locator("#row-bad-build [data-state]")
        expect(state).to_have_attribute("data-state", "working")
        until(lambda: agent.requests.count("/events") > 3)
        agent.mode = "closes"  # of which its stream tells nothing new
        expect(state).to_have_attribute("data-state", "unknown")


def test_a_tab_closed_in_the_middle_of_a_task_and_opened_again_shows_how_it_is_now(
    viewer: RealViewer, daemon: RealDaemon, context: BrowserContext
) -> None:
    task = daemon.shell("build", "sleep 100")
    enter(context, viewer)
    page = open_page(context, viewer.url)
    expect(page.locator("#row-one-build [data-state=working]")).to_be_visible()
    page.close()
    daemon.request("DELETE", f"/tasks/{task['task_id']}")
    daemon.wait(task["task_id"])
    page = open_page(context, viewer.url)
    expect(page.locator("#row-one-build [data-state=idle]")).to_be_visible()
    assert not [states for states in states_since(page, 0) if ALIVE & set(states)]


@pytest.mark.parametrize("ends", [False, True], ids=["task goes on", "task ends meanwhile"])
def test_a_page_heals_after_the_viewer_was_killed(
    viewer: RealViewer, daemon: RealDaemon, context: BrowserContext, watched: Watched, ends: bool
) -> None:
    watched.expected += LOST
    task = daemon.shell("build", "sleep 100")
    enter(context, viewer)
    page = open_page(context, viewer.url)
    state = page.locator("#row-one-build [data-state]").first  # the session's; those of its tasks follow
    expect(state).to_have_attribute("data-state", "working")
    at = time.time()
    viewer.kill9()
    expect(state).to_have_attribute("data-state", "unknown")
    expect(page.locator("#status")).to_contain_text("not live since")
    expect(page.locator("body")).not_to_contain_text("1 running")
    if ends:
        daemon.request("DELETE", f"/tasks/{task['task_id']}")
        daemon.wait(task["task_id"])
    never_alive_once_unknown(page, at)
    viewer.start()
    expect(state).to_have_attribute("data-state", "idle" if ends else "working")
    expect(page.locator("#status")).not_to_contain_text("not live")
    expect(page.locator(".stale")).to_have_count(0)
    expect(page.locator("#status")).to_contain_text("0 running" if ends else "1 running")


def test_a_page_never_shows_running_what_died_with_its_agent(
    viewer: RealViewer, daemon: RealDaemon, context: BrowserContext
) -> None:
    task = daemon.shell("build", "sleep 100")
    daemon.state(task["task_id"], "running")
    enter(context, viewer)
    pages = [open_page(context, viewer.url + path) for path in ("/", "/a/one/s/build")]
    for page in pages:
        expect(page.locator("#main [data-state=working], #main [data-state=running]").first).to_be_visible()
    at = time.time()
    daemon.kill9()
    for page in pages:
        expect(page.locator("[data-unknown=one]")).to_contain_text("has ended")
        expect(page.locator("#main [data-state=unknown]").first).to_be_visible()
    daemon.start()
    ended = daemon.wait(task["task_id"])
    assert ended["state"] == "failed"
    expect(pages[0].locator("#row-one-build [data-state=idle]")).to_be_visible()
    expect(pages[1].locator("#main [data-state=failed]").first).to_be_visible()
    for page in pages:
        expect(page.locator("[data-unknown]")).to_have_count(0)
        never_alive_once_unknown(page, at)


def test_an_agent_that_falls_silent_is_said_to_be_since_when_and_is_whole_when_it_goes_on(
    viewer: RealViewer, daemon: RealDaemon, context: BrowserContext
) -> None:
    daemon.state(daemon.shell("build", "sleep 100")["task_id"], "running")
    enter(context, viewer)
    page = open_page(context, viewer.url)
    row = page.locator("#row-one-build")
    expect(row.locator("[data-state=working]")).to_be_visible()
    at = time.time()
    with stopped(daemon):
        expect(row.locator("[data-state=unknown]")).to_be_visible()
        expect(page.locator("[data-unknown=one]")).to_contain_text("Last heard of at")
        expect(row).to_have_class("stale")
        expect(row).not_to_contain_text("1 running")
        never_alive_once_unknown(page, at)
    expect(row.locator("[data-state=working]")).to_be_visible()
    expect(page.locator("[data-unknown], .stale")).to_have_count(0)


def test_a_page_about_one_agent_keeps_what_it_knew_however_often_it_asks(
    viewer: RealViewer, daemon: RealDaemon, context: BrowserContext
) -> None:
    daemon.state(daemon.shell("build", "sleep 100")["task_id"], "running")
    enter(context, viewer)
    page = open_page(context, f"{viewer.url}/a/one/s/build")
    states = page.locator("#main [data-state]")
    expect(states.first).to_be_visible()
    with stopped(daemon):
        expect(page.locator("#main [data-state=unknown]").first).to_be_visible()
        for _ in range(3):
            page.evaluate("import(document.querySelector('script[src*=live]').src).then((live) => live.refresh())")
        expect(page.locator("[data-unknown=one]")).to_be_visible()
        expect(page.locator("#main [data-state=unknown]").first).to_be_visible()
        expect(page.locator("h1")).to_be_visible()
    expect(page.locator("#main [data-state=running]").first).to_be_visible()
    expect(page.locator(".stale")).to_have_count(0)


def test_a_page_opened_while_an_agent_is_silent_says_so_and_is_filled_in(
    viewer: RealViewer, daemon: RealDaemon, context: BrowserContext
) -> None:
    daemon.state(daemon.shell("build", "sleep 100")["task_id"], "running")
    enter(context, viewer)
    with stopped(daemon):
        page = open_page(context, viewer.url)
        expect(page.locator("[data-unknown=one]")).to_contain_text("slow")
        expect(page.locator("[data-row]")).to_have_count(0)
    expect(page.locator("#row-one-build [data-state=working]")).to_be_visible()
    expect(page.locator("[data-unknown]")).to_have_count(0)
