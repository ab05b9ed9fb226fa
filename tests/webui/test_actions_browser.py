"""What people do in a real browser: start, cancel, retry, edit, delete; with scripts and without."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.daemon.harness import RealDaemon, until

from .accessible import wrong_with
from .conftest import PATIENT, Watched, enter
from .viewer import RealViewer


@pytest.fixture
def plain(browser: Browser, viewer: RealViewer) -> Iterator[Page]:
    """A tab without scripts."""
    context = browser.new_context(java_script_enabled=False, extra_http_headers=PATIENT)
    enter(context, viewer)
    yield context.new_page()
    context.close()


def state_of(page: Page, name: str) -> None:
    expect(page.locator(f"#main [data-state={name}]").first).to_be_visible()


def test_a_form_starts_a_task_whose_output_comes_and_cancel_and_retry_work(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    page.goto(viewer.url)
    page.get_by_role("link", name="New task").first.click()
    page.get_by_role("textbox", name="Command").fill("echo hello from the form; sleep 100")
    page.get_by_label("Session").fill("build")
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_url(re.compile(r"/a/one/s/build/t/"))
    state_of(page, "running")
    expect(page.locator("#main")).to_contain_text("hello from the form")
    first = page.url
    page.get_by_role("button", name="Cancel").click()
    state_of(page, "cancelled")
    page.get_by_role("button", name="Retry").click()
    page.wait_for_url(lambda url: "/t/" in url and url != first)
    state_of(page, "running")
    assert len(daemon.get("/tasks")["data"]) == 2


def test_a_double_click_starts_one_task(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    page.goto(f"{viewer.url}/new?session=build")
    page.get_by_role("textbox", name="Command").fill("true")
    page.get_by_role("button", name="Start", exact=True).dblclick()
    page.wait_for_url(re.compile(r"/t/"))
    assert len(daemon.get("/tasks")["data"]) == 1


def test_a_double_click_without_scripts_starts_one_task(viewer: RealViewer, daemon: RealDaemon, plain: Page) -> None:
    plain.goto(f"{viewer.url}/new?session=build")
    plain.get_by_role("textbox", name="Command").fill("true")
    plain.get_by_role("button", name="Start", exact=True).dblclick()
    plain.wait_for_url(re.compile(r"/t/"))
    assert len(daemon.get("/tasks")["data"]) == 1


def test_what_is_typed_in_an_edit_stays_while_the_page_behind_it_changes(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    daemon.wait(daemon.shell("build", "true")["task_id"])
    page.goto(f"{viewer.url}/a/one/s/build")
    page.get_by_role("link", name="Edit", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Title").fill("half a ti")
    task = daemon.shell("build", "sleep 100")
    expect(page.locator("#main [data-state=running]").first).to_be_attached()
    expect(dialog.get_by_label("Title")).to_have_value("half a ti")
    expect(dialog.get_by_label("Title")).to_be_focused()
    dialog.get_by_label("Title").press_sequentially("tle")
    dialog.get_by_label("Labels").fill("team=web")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("half a title")
    session = daemon.get("/sessions/build")
    assert (session["title"], session["labels"]) == ("half a title", {"team": "web"})
    daemon.request("DELETE", f"/tasks/{task['task_id']}")


def test_a_question_is_left_without_anything_done(
    viewer: RealViewer, daemon: RealDaemon, page: Page, watched: Watched
) -> None:
    watched.expected.append("404")  # the page behind the question, as the session goes
    daemon.wait(daemon.shell("build", "true")["task_id"])
    page.goto(f"{viewer.url}/a/one/s/build")
    for by_key in (True, False):
        page.get_by_role("link", name="Delete", exact=True).click()
        expect(page.get_by_role("dialog")).to_contain_text("Delete the session build?")
        if by_key:
            page.keyboard.press("Escape")
        else:
            page.get_by_role("link", name="Leave it").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
    assert daemon.get("/sessions/build")["session_id"] == "build"
    page.get_by_role("link", name="Delete", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete it").click()
    expect(page.get_by_text("No session yet")).to_be_visible()


def test_a_session_is_deleted_without_scripts(viewer: RealViewer, daemon: RealDaemon, plain: Page) -> None:
    daemon.wait(daemon.shell("build", "true")["task_id"])
    plain.goto(f"{viewer.url}/a/one/s/build")
    plain.get_by_role("link", name="Delete", exact=True).click()
    expect(plain.get_by_role("heading", level=1)).to_have_text("Delete the session build?")
    plain.get_by_role("button", name="Delete it").click()
    until(lambda: daemon.request("GET", "/sessions/build").status == 404)


def test_a_command_is_copied(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    task = daemon.shell("build", "sleep 100")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=viewer.url)
    page.goto(f"{viewer.url}/a/one/s/build/t/{task['task_id']}")
    page.get_by_text("As commands").click()
    page.get_by_role("button", name="Copy: Cancel, agentd").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    assert (
        page.evaluate("navigator.clipboard.readText()")
        == f"agentd cancel --url {daemon.agent['url']} {task['task_id']}"
    )


def test_an_emergency_reset_is_asked_twice_and_reported(
    viewer: RealViewer, daemon: RealDaemon, page: Page, watched: Watched
) -> None:
    watched.expected.append("422")
    task = daemon.shell("build", "sleep 100")
    daemon.state(task["task_id"], "running")
    page.goto(f"{viewer.url}/agents")
    page.get_by_role("link", name="Emergency reset").click()
    page.get_by_label("Type the agent's name").fill("on")
    page.get_by_role("button", name="Reset it").click()
    expect(page.get_by_text("Nothing was done")).to_be_visible()
    page.get_by_label("Type the agent's name").fill("one")
    page.get_by_role("button", name="Reset it").click()
    expect(page.get_by_text(task["task_id"])).to_be_visible()
    assert daemon.wait(task["task_id"])["state"] == "cancelled"


def test_the_pages_of_actions_are_for_everybody(
    viewer: RealViewer, daemon: RealDaemon, page: Page, watched: Watched
) -> None:
    watched.expected.append("422")
    task = daemon.shell("build", "sleep 100")
    daemon.request("PUT", "/sessions/build/artifacts/a.txt", b"x")
    for path in (
        "/new?session=build",
        f"/new?agent=one&from={task['task_id']}",
        "/new?kind=opera",
        "/sessions/new",
        "/settings",
        "/a/one/s/build/edit",
        "/a/one/s/build/delete",
        "/a/one/s/build/artifacts/a.txt?ask=delete",
        "/a/one/workers/w1/restart",
        "/a/one/cleanup",
        "/a/one/reset",
    ):
        page.goto(viewer.url + path)
        page.evaluate("for (const each of document.querySelectorAll('#main details')) each.open = true")
        assert wrong_with(page) == [], path
    page.goto(f"{viewer.url}/new")
    page.get_by_label("Timeout (s)").evaluate("element => { element.type = 'text'; element.value = 'soon' }")
    page.get_by_role("button", name="Show as commands").click()
    expect(page.get_by_text("must be a number").first).to_be_visible()
    assert wrong_with(page) == [], "a form with an error"
