"""The page of a task: how it ended and why, its attempts, what it runs, what it left."""

from __future__ import annotations

import html
import re

from playwright.sync_api import Browser, Page, expect

from tests.daemon.harness import RealDaemon

from .accessible import wrong_with
from .conftest import PATIENT, MakeDaemon, MakeViewer, enter
from .viewer import RealViewer


def path_of(task: dict[str, str]) -> str:
    return f"/a/one/s/{task['session_id']}/t/{task['task_id']}"


def cause_on(viewer: RealViewer, task: dict[str, str]) -> str:
    """What the page says of how a task stands."""
    section = viewer.html(path_of(task)).split('<section id="standing"')[1].split("</section>")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", section)).split())


def test_a_task_that_ended_before_the_first_look_is_shown_as_ended_with_its_cause(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    task = daemon.shell("s", "echo no; exit 3", name="doomed")
    daemon.wait(task["task_id"])
    page.goto(viewer.url + path_of(task))
    expect(page.locator("#standing [data-state=failed]")).to_be_visible()
    expect(page.locator("#cause")).to_contain_text("The command exited with code 3.")
    expect(page.locator("[data-state=running]")).to_have_count(0)
    expect(page.get_by_role("button", name="Retry", exact=True)).to_be_visible()


def test_each_attempt_of_a_retried_task_is_a_bar_and_a_row_that_lead_to_it(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    task = daemon.shell("s", "sleep 0.1; exit 3", retry={"max": 2, "backoff_s": 0.1})
    daemon.wait(task["task_id"])
    page.goto(viewer.url + "/a/one/s/s")
    bars = page.locator(f"#lane-{task['task_id']} a[href*='attempt=']")
    expect(bars).to_have_count(3)
    expect(bars.nth(0)).to_have_accessible_name(re.compile("attempt 1, failed"))
    bars.nth(1).click()
    expect(page).to_have_url(f"{viewer.url}{path_of(task)}?attempt=2")
    expect(page.locator(".standing")).to_contain_text("attempt 2 of 3")
    expect(page.locator("#attempts tbody tr")).to_have_count(3)
    expect(page.locator("#attempt-2.here")).to_be_visible()
    page.locator(".standing").get_by_role("link", name="attempt 1").click()
    expect(page.locator(".standing")).to_contain_text("attempt 1 of 3")
    assert wrong_with(page) == []


def test_an_attempt_that_is_not_there_is_said_to_be_missing(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = daemon.wait(daemon.shell("s", "true")["task_id"])
    for wrong in ("2", "0", "x"):
        answer = viewer.request("GET", f"{path_of(task)}?attempt={wrong}", Accept="application/json")
        assert (answer.status, answer.json["code"]) == (404, "attempt_not_found")


def test_a_running_task_counts_up_and_its_end_is_seen_on_the_open_page(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    task = daemon.shell("s", "sleep 100")
    daemon.state(task["task_id"], "running")
    page.goto(viewer.url + path_of(task))
    count = page.locator("#standing time[data-elapsed]")
    before = count.inner_text()
    expect(count).not_to_have_text(before)
    daemon.request(
        "POST", f"/tasks/{task['task_id']}/progress", {"progress": 40, "phase": "fetch", "items_processed": 4}
    )
    expect(page.locator("#progress")).to_contain_text("40 % fetch")
    expect(page.get_by_role("progressbar", name="Progress")).to_have_attribute("value", "40.0")
    daemon.request("DELETE", f"/tasks/{task['task_id']}")
    expect(page.locator("#standing [data-state=cancelled]")).to_be_visible()
    expect(page.locator("#cause")).to_contain_text("Asked to stop")
    expect(page.locator("[data-state=running]")).to_have_count(0)


def test_each_end_says_what_ended_it_and_what_to_do(viewer: RealViewer, daemon: RealDaemon) -> None:
    slow = daemon.shell("a", "sleep 100", timeout_s=0.1)
    killed = daemon.shell("b", "kill -9 $$")
    missing = daemon.request(
        "POST", "/tasks", {"kind": "shell", "spec": {"argv": ["/no/such/program"]}, "session_id": "c"}
    ).json
    first = daemon.shell("d", "while [ ! -e go ]; do sleep 0.01; done; exit 1")
    after = daemon.shell("d", "true", needs=[first["task_id"]])
    (daemon.data_dir / "sessions/d/workspace/go").touch()
    for task in (slow, killed, missing, first, after):
        daemon.wait(task["task_id"])
    assert "longer than it may: 100 ms" in cause_on(viewer, slow) and "larger timeout_s" in cause_on(viewer, slow)
    assert "SIGKILL" in cause_on(viewer, killed)
    assert "could not be started" in cause_on(viewer, missing)
    assert f'\n<a href="{path_of(first)}">Open what it needs</a>' in viewer.html(path_of(after))


def test_a_task_that_its_daemon_died_under_says_so_and_when_the_daemon_was_back(
    make_daemon: MakeDaemon, make_viewer: MakeViewer
) -> None:
    daemon = make_daemon().start()
    task = daemon.shell("s", "sleep 100")
    daemon.state(task["task_id"], "running")
    daemon.kill9()
    daemon.start()
    viewer = make_viewer({"one": daemon.data_dir}).start().log_in()
    daemon.wait(task["task_id"])
    said = cause_on(viewer, task)
    assert "The daemon or its machine died while it ran." in said
    assert "The daemon was back" in said
    assert "then retry" in said


def test_a_waiting_task_shows_what_it_needs_and_how_that_stands(viewer: RealViewer, daemon: RealDaemon) -> None:
    running = daemon.shell("s", "sleep 100", name="the need")
    daemon.state(running["task_id"], "running")
    waiting = daemon.shell("s", "true", needs=[running["task_id"]])
    page = viewer.html(path_of(waiting))
    assert re.search(r"the need</a>\s*<span class=\"state run\" data-state=\"running\"", page)
    assert viewer.get(path_of(waiting))["task"]["needs"] == [running["task_id"]]


def test_a_task_asked_for_in_another_session_is_found_where_it_is(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = daemon.wait(daemon.shell("s", "true")["task_id"])
    answer = viewer.request("GET", f"/a/one/s/other/t/{task['task_id']}?attempt=1", Accept="text/html")
    assert (answer.status, answer.headers["location"]) == (303, f"{path_of(task)}?attempt=1")


def test_a_task_that_is_not_there_says_so_and_where_to_look(viewer: RealViewer) -> None:
    answer = viewer.request("GET", "/a/one/s/s/t/nope", Accept="application/json")
    assert (answer.status, answer.json["code"]) == (404, "task_not_found")
    assert "/a/one/s/s, lists" in viewer.request("GET", "/a/one/s/s/t/nope", Accept="text/html").body.decode()


def test_what_it_runs_is_readable_and_secrets_are_blotted(viewer: RealViewer, daemon: RealDaemon) -> None:
    spec = {
        "argv": ["echo", "two words"],
        "env": {"GITHUB_TOKEN": "gh-12345", "COLOR": "blue"},
        "limits": {"files": 64},
        "stdin": "line one\nline two\n",
    }
    task = daemon.request("POST", "/tasks", {"kind": "shell", "spec": spec, "session_id": "s"}).json
    daemon.wait(task["task_id"])
    page = viewer.html(path_of(task))
    for text in (
        "echo &#39;two words&#39;",
        "COLOR=blue",
        "GITHUB_TOKEN=••••••",
        "line one\nline two",
        "&#34;files&#34;: 64",
    ):
        assert text in page, text
    assert "gh-12345" not in page


def test_a_long_result_is_cut_and_all_of_it_is_a_click_away(viewer: RealViewer, daemon: RealDaemon) -> None:
    write = """python3 -c 'import json,os; json.dump(["x" * 30000, "END"], open(os.environ["AGENTD_RESULT"], "w"))'"""
    task = daemon.wait(daemon.shell("s", write)["task_id"])
    page = viewer.html(path_of(task))
    assert "END" not in page.replace(html.escape(write, quote=True), "").split('id="result"')[1].split("</section>")[0]
    assert "Show all 3" in page
    assert "END" in viewer.html(f"{path_of(task)}?whole=1").split('id="result"')[1].split("</section>")[0]


def test_the_page_can_be_read_without_scripts(browser: Browser, viewer: RealViewer, daemon: RealDaemon) -> None:
    task = daemon.wait(daemon.shell("s", "echo hello from here; exit 3", labels={"a": "b"})["task_id"])
    context = browser.new_context(java_script_enabled=False, extra_http_headers=PATIENT)
    try:
        enter(context, viewer)
        page = context.new_page()
        page.goto(viewer.url + path_of(task))
        for text in ("exited with code 3", "hello from here", "a=b", "Particulars"):
            expect(page.locator("main")).to_contain_text(text)
    finally:
        context.close()


def test_a_long_command_moves_no_page_sideways(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    task = daemon.shell("s", "x" * 300, retry={"max": 1, "backoff_s": 0.01})
    daemon.wait(task["task_id"])
    for path in ("/a/one/s/s", path_of(task)):
        page.goto(viewer.url + path)
        assert wrong_with(page) == []


def test_a_page_goes_on_changing_after_a_click_into_it(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    task = daemon.shell("s", "sleep 600", name="slow")
    daemon.state(task["task_id"], "running")
    page.goto(viewer.url + path_of(task))
    page.get_by_role("heading", name="slow").click()
    assert page.evaluate("document.activeElement.id") == "main"
    daemon.request("POST", f"/tasks/{task['task_id']}/progress", {"progress": 70})
    expect(page.get_by_role("progressbar", name="Progress")).to_have_attribute("value", "70.0")
