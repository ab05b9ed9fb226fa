"""Tasks that ask: seen in every list, answered on their page by those who may; and what interactive tasks read."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.daemon.harness import RealDaemon

from .accessible import wrong_with
from .conftest import PATIENT, enter
from .viewer import RealViewer

HOSTILE = "<b>really</b>\n<script>alert(1)</script> \u202edrop?"


def asking(daemon: RealDaemon, prompt: str = "Deploy?", options: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    """A running task that asks."""
    task = daemon.shell("s", "sleep 600", name="deployment", **fields)
    daemon.state(task["task_id"], "running")
    ask(daemon, task, "q1", prompt, options)
    return task


def ask(daemon: RealDaemon, task: dict[str, Any], ask_id: str, prompt: str, options: tuple[str, ...] = ()) -> None:
    question = {"ask_id": ask_id, "prompt": prompt, "options": options}
    assert daemon.request("POST", f"/tasks/{task['task_id']}/ask", question).status == 202


def path_of(task: dict[str, Any]) -> str:
    return f"/a/one/s/{task['session_id']}/t/{task['task_id']}"


def test_a_question_comes_and_goes_on_the_open_page_and_its_answer_stays(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    task = daemon.shell("s", "sleep 600")
    daemon.state(task["task_id"], "running")
    page.goto(viewer.url + path_of(task))
    expect(page.locator("#awaiting")).to_have_count(0)
    ask(daemon, task, "q 1", HOSTILE, ("yes", "<no> & never"))
    expect(page.locator("#question")).to_have_text(HOSTILE)
    assert page.locator("#question > *").count() == 0
    assert wrong_with(page) == []
    page.get_by_role("button", name="<no> & never").click()
    expect(page.locator("#answered")).to_contain_text("<no> & never")
    expect(page.locator("#awaiting")).to_have_count(0)
    found = daemon.task(task["task_id"])["answered"]
    assert (found["answer"], found["ask_id"]) == ("<no> & never", "q 1")
    expect(page.locator("#answered")).to_contain_text(found["by"])


def test_what_is_typed_for_one_question_is_kept_while_the_page_changes_and_is_not_sent_for_the_next(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    task = asking(daemon, "Which name?")
    page.goto(viewer.url + path_of(task))
    page.get_by_role("textbox", name="Answer").fill("first\nsecond")
    page.locator("h1").click()  # the field is not the one that has the focus
    told = daemon.request("POST", f"/tasks/{task['task_id']}/progress", {"phase": "asking"})
    assert told.status in (200, 202, 204), told.body
    expect(page.locator("#progress")).to_contain_text("asking")
    expect(page.get_by_role("textbox", name="Answer")).to_have_value("first\nsecond")
    ask(daemon, task, "q2", "Which colour?")
    expect(page.locator("#question")).to_have_text("Which colour?")
    expect(page.get_by_role("textbox", name="Answer")).to_have_value("")
    page.get_by_role("textbox", name="Answer").fill("light\nblue")
    page.get_by_role("button", name="Answer", exact=True).click()
    expect(page.locator("#answered")).to_contain_text("light\nblue")
    assert daemon.task(task["task_id"])["answered"]["answer"] == "light\nblue"


def test_it_is_answered_without_scripts(browser: Browser, viewer: RealViewer, daemon: RealDaemon) -> None:
    task = asking(daemon, options=("yes", "no"))
    context = browser.new_context(java_script_enabled=False, extra_http_headers=PATIENT)
    try:
        enter(context, viewer)
        page = context.new_page()
        page.goto(viewer.url + path_of(task))
        page.get_by_role("button", name="yes").click()
        expect(page.locator("#answered")).to_contain_text("yes")
    finally:
        context.close()
    assert daemon.task(task["task_id"])["answered"]["answer"] == "yes"


def test_an_answer_to_a_question_that_is_over_is_refused_and_says_so(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = asking(daemon)
    ask(daemon, task, "q2", "Really?")
    late = viewer.post(path_of(task) + "/answer", answer="yes", ask_id="q1")
    assert late.status == 409 and "something else now" in late.body.decode()
    assert daemon.task(task["task_id"])["answered"] is None
    other = viewer.post(path_of(task) + "/answer", ask_id="q2")
    assert other.status == 422 and "answer: is required" in other.body.decode()


def test_who_may_only_look_sees_the_question_and_cannot_answer(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = asking(daemon, options=("yes", "no"))
    csrf = viewer.csrf
    link = viewer.command("link", "--role", "viewer").stdout.decode().split()[-1]
    viewer.cookie = viewer.request("POST", link.removeprefix(viewer.url)).headers["set-cookie"].split(";")[0]
    page = viewer.html(path_of(task))
    assert "Deploy?" in page and "It takes one of" in page
    assert 'name="ask_id"' not in page and 'id="input"' not in page
    assert viewer.post(path_of(task) + "/answer", answer="yes", ask_id="q1").status == 403
    form = {"Content_Type": "application/x-www-form-urlencoded", "Accept": "text/html"}
    foreign = viewer.request("POST", path_of(task) + "/answer", f"csrf={csrf}&answer=yes".encode(), **form)
    assert foreign.status == 403
    assert daemon.task(task["task_id"])["answered"] is None


@pytest.mark.parametrize("path", ["/", "/agents", "/a/one/s/s", "/history?state=awaiting"])
def test_lists_say_that_a_task_awaits_an_answer_and_lead_to_it(
    viewer: RealViewer, daemon: RealDaemon, path: str
) -> None:
    task = asking(daemon)
    page = viewer.html(path)
    assert "awaits an answer" in page and f'href="{path_of(task)}"' in page
    if path in ("/", "/agents"):
        assert "1 awaits an answer</a>" in page
    daemon.request("POST", f"/tasks/{task['task_id']}/answer", {"answer": "yes"})
    assert "awaits an answer" not in viewer.html(path).replace("</option>", "")


def test_only_tasks_that_ask_are_listed_as_such_with_the_other_filters(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = asking(daemon, labels={"team": "web"})
    other = daemon.shell("other", "sleep 600")
    daemon.state(other["task_id"], "running")
    assert [row["task_id"] for row in viewer.get("/history?state=awaiting")["data"]] == [task["task_id"]]
    assert viewer.get("/history?state=awaiting&label=team%3Ddata")["data"] == []
    assert viewer.get("/")["totals"]["awaiting"] == 1


def test_lines_are_sent_to_an_interactive_task_until_its_input_ends(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    spec = {"command": "while read line; do echo heard $line; done; echo over", "interactive": True}
    task = daemon.request("POST", "/tasks", {"kind": "shell", "spec": spec, "session_id": "s"}).json
    daemon.state(task["task_id"], "running")
    page.goto(viewer.url + path_of(task))
    page.get_by_label("A line for its input").fill("one & two")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".lines")).to_contain_text("heard one & two")
    assert wrong_with(page) == []
    page.get_by_role("button", name="End its input").click()
    expect(page.locator(".lines")).to_contain_text("over")
    expect(page.locator("#input")).to_have_count(0)
    assert daemon.wait(task["task_id"])["state"] == "completed"
    assert viewer.post(path_of(task) + "/input", line="late").status == 409
