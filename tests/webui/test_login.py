"""Coming in: one-time links, tokens, the cookie, and what becomes of those who guess."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.daemon.harness import Answer, RealDaemon, until
from webui.failures import MAX_FAILURES

from .conftest import MakeDaemon, MakeViewer, Watched
from .viewer import RealViewer

FORM = "application/x-www-form-urlencoded"


def log_in(viewer: RealViewer, agent: str, token: str, then: str = "", **headers: str) -> Answer:
    """Send the login form; `viewer` carries the cookie from then on."""
    body = urlencode({"agent": agent, "token": token, "next": then}).encode()
    answer = viewer.request("POST", "/login", body, Content_Type=FORM, Accept="text/html", **headers)
    if answer.status == 303:
        viewer.cookie = answer.headers["set-cookie"].split(";")[0]
    return answer


def made_token(daemon: RealDaemon, role: str) -> str:
    """A new token of the daemon."""
    command = [sys.executable, "-m", "agentd.cli.main", "token", "create", role, "--role", role]
    found = subprocess.run(
        [*command, "--data-dir", str(daemon.data_dir)], capture_output=True, check=True, text=True, timeout=30
    )
    token = found.stdout.split()[-1]
    until(lambda: daemon.request("GET", "/status", Authorization=f"Bearer {token}").status == 200)
    return token


@pytest.fixture
def strange(make_viewer: MakeViewer, daemon: RealDaemon) -> RealViewer:
    """A running viewer that nobody has logged in to."""
    return make_viewer({"one": daemon.data_dir}).start()


def test_a_link_that_a_person_opens_logs_in_and_is_used_up(
    strange: RealViewer, context: BrowserContext, watched: Watched
) -> None:
    page = context.new_page()
    page.goto(strange.link)
    expect(page.get_by_role("heading", name="Sessions")).to_be_visible()
    assert urlsplit(page.url).path == "/"
    [cookie] = context.cookies()
    assert cookie["httpOnly"] is True and cookie["sameSite"] == "Strict" and cookie["path"] == "/"
    assert cookie["secure"] is False  # over plain HTTP a browser would not keep it
    assert page.evaluate("document.cookie") == ""
    watched.expected.append("403 (Forbidden)")
    page.goto("about:blank")  # without its cookie an open page goes to the login by itself, and what is opened is lost
    context.clear_cookies()
    page.goto(strange.link)
    expect(page.get_by_text("used or has expired")).to_be_visible()


def test_a_link_works_without_scripts_by_its_button(strange: RealViewer, context: BrowserContext) -> None:
    browser = context.browser
    assert browser is not None
    with browser.new_context(java_script_enabled=False) as plain:
        page = plain.new_page()
        page.goto(strange.link)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name="Sessions")).to_be_visible()


def test_what_only_fetches_a_link_does_not_use_it_up(strange: RealViewer) -> None:
    path = urlsplit(strange.link).path
    fetched = strange.request("GET", path)
    assert fetched.status == 200 and "set-cookie" not in fetched.headers
    assert fetched.headers["referrer-policy"] == "no-referrer"
    strange.log_in()
    assert strange.request("GET", "/").status == 200


def test_a_link_of_before_a_restart_is_refused_since_nobody_knows_whether_it_was_used(strange: RealViewer) -> None:
    old = urlsplit(strange.link).path
    strange.stop()
    strange.start()
    assert strange.request("POST", old).status == 403
    strange.log_in()


def test_a_login_outlives_the_viewer(strange: RealViewer) -> None:
    strange.log_in()
    strange.kill9()
    strange.start()
    assert strange.request("GET", "/").status == 200


def test_a_token_of_an_agent_logs_in_to_it_alone_and_goes_to_no_other(
    make_viewer: MakeViewer, daemon: RealDaemon, make_daemon: MakeDaemon
) -> None:
    two = make_daemon("two").start()
    viewer = make_viewer({"one": daemon.data_dir, "two": two.agent["url"]}).start()
    assert log_in(viewer, "one", daemon.token).status == 303
    found = {each["agent"]: each for each in viewer.get("/")["agents"]}
    assert found["one"]["status"] == "fresh"
    assert (found["two"]["status"], found["two"]["reason_code"]) == ("unauthorized", "no_token")
    assert log_in(viewer, "two", two.token).status == 303
    assert {each["status"] for each in viewer.get("/")["agents"]} == {"fresh"}


def test_a_viewers_token_at_one_agent_gives_no_more_at_another(
    make_viewer: MakeViewer, daemon: RealDaemon, make_daemon: MakeDaemon
) -> None:
    two = make_daemon("two").start()
    viewer = make_viewer({"one": daemon.data_dir, "two": two.data_dir}).start()
    log_in(viewer, "one", made_token(daemon, "viewer"))
    found = {each["agent"]: each for each in viewer.get("/")["agents"]}
    assert found["one"]["role"] == "viewer"
    assert found["two"]["reason_code"] == "no_token"  # though the viewer itself has one for it
    assert viewer.post("/api/agents/two/tasks").status == 403


def test_an_admins_token_at_one_agent_lifts_no_cap_at_another(
    make_viewer: MakeViewer, daemon: RealDaemon, make_daemon: MakeDaemon
) -> None:
    two = make_daemon("two").start()
    viewer = make_viewer({"one": daemon.data_dir, "two": two.data_dir}).start()
    capped = command_link(viewer, "--role", "viewer")
    viewer.cookie = viewer.request("POST", urlsplit(capped).path).headers["set-cookie"].split(";")[0]
    assert log_in(viewer, "one", daemon.token).status == 303
    body = b'{"kind": "shell", "spec": {"command": "true"}, "session_id": "s"}'
    sent = {"Content_Type": "application/json", "X_CSRF_Token": viewer.csrf}
    assert viewer.request("POST", "/api/agents/one/tasks", body, **sent).status == 201
    refused = viewer.request("POST", "/api/agents/two/tasks", body, **sent)
    assert refused.status == 403 and refused.json["code"] == "forbidden"
    assert two.get("/sessions")["data"] == []


def command_link(viewer: RealViewer, *arguments: str) -> str:
    """A new link, as `agentd-web link` prints it."""
    return viewer.command("link", *arguments).stdout.decode().strip()


@pytest.mark.parametrize(
    ("role", "shell", "reset"), [("viewer", 403, 403), ("operator", 201, 403), ("admin", 201, 200)]
)
def test_a_link_with_a_role_allows_that_and_no_more(strange: RealViewer, role: str, shell: int, reset: int) -> None:
    path = urlsplit(command_link(strange, "--role", role)).path
    strange.cookie = strange.request("POST", path).headers["set-cookie"].split(";")[0]
    assert strange.request("GET", "/").status == 200
    sent = {"Content_Type": "application/json", "X_CSRF_Token": strange.csrf}
    body = b'{"kind": "shell", "spec": {"command": "true"}, "session_id": "s"}'
    assert strange.request("POST", "/api/agents/one/tasks", body, **sent).status == shell
    assert strange.request("POST", "/api/agents/one/admin/cleanup?dry_run=true", None, **sent).status == reset


def test_a_wrong_token_is_refused_and_after_too_many_so_is_every_other(strange: RealViewer, daemon: RealDaemon) -> None:
    for _ in range(MAX_FAILURES):
        answer = log_in(strange, "one", "wrong")
        assert answer.status == 403 and b"does not know this token" in answer.body
    assert log_in(strange, "one", daemon.token).status == 429
    assert strange.request("POST", "/login/wrong").status == 429
    strange.log_in()  # a good link cannot be guessed, so nobody can lock its owner out
    assert strange.log_text().count("login.failed") == MAX_FAILURES


def test_addresses_behind_a_proxy_are_told_apart_only_if_it_is_trusted(
    make_viewer: MakeViewer, daemon: RealDaemon
) -> None:
    trusting = make_viewer({"one": daemon.data_dir}, "--trust-forwarded", name="trusting").start()
    doubting = make_viewer({"one": daemon.data_dir}, name="doubting").start()
    for viewer, after in ((trusting, 303), (doubting, 429)):
        for _ in range(MAX_FAILURES):
            log_in(viewer, "one", "wrong", X_Forwarded_For="spoofed, 192.0.2.7")
        assert log_in(viewer, "one", daemon.token, X_Forwarded_For="192.0.2.8").status == after
    assert log_in(trusting, "one", daemon.token, X_Forwarded_For="192.0.2.8, 192.0.2.7").status == 429


def test_a_login_goes_on_to_where_it_was_asked_for_and_never_elsewhere(strange: RealViewer, daemon: RealDaemon) -> None:
    turned = strange.request("GET", "/history?state=failed&q=a%20b", Accept="text/html")
    assert turned.status == 303 and turned.headers["location"].startswith("/login?next=")
    assert quote("/history?state=failed&q=a%20b", safe="") in turned.headers["location"]
    assert log_in(strange, "one", daemon.token, "/history?q=a%20b").headers["location"] == "/history?q=a%20b"
    for elsewhere in ("//evil.example", "/\\evil.example", "https://evil.example", "//[", "evil", "/\t/evil.example"):
        assert log_in(strange, "one", daemon.token, elsewhere).headers["location"] == "/"


def test_a_program_without_a_login_is_told_so_and_not_sent_to_a_form(strange: RealViewer) -> None:
    for path in ("/live", "/api/sessions", "/?format=json"):
        answer = strange.request("GET", path)
        assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer", path


def test_a_login_that_cannot_be_checked_keeps_what_was_chosen(make_viewer: MakeViewer, tmp_path: Path) -> None:
    viewer = make_viewer({"up": "http://127.0.0.1:9", "down": tmp_path / "nothing"}).start()
    answer = log_in(viewer, "down", "secret-token", "/history")
    assert answer.status == 503 and b"cannot say whether it knows the token" in answer.body
    assert b"<option selected>down</option>" in answer.body and b'value="/history"' in answer.body
    assert b"secret-token" not in answer.body
    assert log_in(viewer, "down", "two\nlines").status == 422
    assert log_in(viewer, "other", "x").status == 404


def test_a_token_revoked_meanwhile_is_said_on_the_open_page_which_offers_to_log_in_again(
    strange: RealViewer, daemon: RealDaemon, context: BrowserContext
) -> None:
    token = made_token(daemon, "operator")
    page = context.new_page()
    page.goto(f"{strange.url}/?q=b")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Sessions")).to_be_visible()
    (daemon.data_dir / "tokens.json").unlink()
    until(lambda: daemon.request("GET", "/status", Authorization=f"Bearer {token}").status == 401)
    daemon.shell("build", "true")
    notice = page.locator("[data-unknown=one]")
    expect(notice).to_contain_text("does not know the token")
    notice.get_by_role("link", name="Log in to one").click()
    expect(page.get_by_label("Agent")).to_have_value("one")
    page.get_by_label("Token").fill(daemon.token)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#row-one-build")).to_be_visible()
    assert urlsplit(page.url).query == "q=b"


def test_logging_out_takes_the_cookie_and_needs_the_form_of_the_login(viewer: RealViewer) -> None:
    assert viewer.request("POST", "/logout", b"", Content_Type=FORM).status == 403
    answer = viewer.post("/logout")
    assert answer.status == 303 and answer.headers["location"] == "/login"
    assert re.match(r'agentd-[0-9a-f]{8}=""; ', answer.headers["set-cookie"])
    assert "Max-Age=0" in answer.headers["set-cookie"]


def test_no_secret_gets_into_a_page_the_log_or_a_command_line(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    page.goto(viewer.url)
    seen = page.content() + "".join(viewer.html(path) for path in ("/agents", "/login"))
    log_in(viewer, "one", "wrong-token-of-somebody")
    assert viewer.process is not None
    argv = Path(f"/proc/{viewer.process.pid}/cmdline").read_text()
    secret = (viewer.place / "secret").read_text().strip()
    for text in (daemon.token, secret, "wrong-token-of-somebody", urlsplit(viewer.link).path.rpartition("/")[2]):
        assert text not in seen + viewer.log_text() + argv
