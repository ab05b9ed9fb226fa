"""What every request passes, and what every answer carries: Host, Origin, forms, headers, limits, the policy."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from hosting.connections import MAX_HEADERS
from tests.daemon.harness import RealDaemon
from webui.connections import HEADER_BYTES, LINE_BYTES

from .conftest import Watched
from .viewer import RealViewer

FORM = "application/x-www-form-urlencoded"
SHELL = b'{"kind": "shell", "spec": {"command": "true"}, "session_id": "s"}'
MARKUP = "\"'><script>window.ran=1</script><img src=x onerror=window.ran=1>{{7*7}}"


def raw(viewer: RealViewer, request: bytes) -> bytes:
    """What comes back to bytes that no client would send."""
    with socket.create_connection(("127.0.0.1", viewer.port), timeout=60) as connection:
        connection.sendall(request)
        found = b""
        while block := connection.recv(65536):
            found += block
        return found


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8421", "", "192.0.2.1"])
def test_a_host_that_is_not_the_viewers_is_refused_before_all_else(viewer: RealViewer, host: str) -> None:
    for path in ("/", "/healthz", "/static/agentd.css", "/login"):
        answer = viewer.request("GET", path, Host=host)
        assert answer.status == 403, path
        assert b"--allowed-host" in answer.body
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "[::1]:8421", "127.0.0.1"])
def test_loopback_is_always_a_name_of_the_viewer(viewer: RealViewer, host: str) -> None:
    assert viewer.request("GET", "/", Host=host).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=lambda headers: " ".join(headers.values()),
)
def test_a_form_of_another_site_is_refused_whatever_it_carries(
    viewer: RealViewer, daemon: RealDaemon, headers: dict[str, str]
) -> None:
    sent = {"Content-Type": "application/json", "X-CSRF-Token": viewer.csrf, **headers}
    assert viewer.request("POST", "/api/agents/one/tasks", SHELL, **sent).status == 403
    body = urlencode({"agent": "one", "token": daemon.token}).encode()
    assert viewer.request("POST", "/login", body, **{"Content-Type": FORM, **headers}).status == 403
    assert daemon.get("/sessions")["data"] == []


def test_a_write_needs_the_csrf_token_of_its_own_login(viewer: RealViewer, daemon: RealDaemon) -> None:
    other = viewer.command("token", "--role", "admin").stdout.decode().strip()
    page = viewer.request("GET", "/agents", Authorization=f"Bearer {other}", Accept="text/html").body.decode()
    foreign = page.partition('name="csrf-token" content="')[2][:64]
    assert foreign not in ("", viewer.csrf)
    sent = {"Content_Type": "application/json"}
    for given in ({}, {"X_CSRF_Token": ""}, {"X_CSRF_Token": foreign}, {"X_CSRF_Token": "ä"}):
        assert viewer.request("POST", "/api/agents/one/tasks", SHELL, **sent, **given).status == 403
    # What a proxy's own login adds makes a form no more trustworthy.
    assert viewer.request("POST", "/api/agents/one/tasks", SHELL, **sent, Authorization="Basic eDp5").status == 403
    assert daemon.get("/sessions")["data"] == []
    assert viewer.request("POST", "/api/agents/one/tasks", SHELL, **sent, X_CSRF_Token=viewer.csrf).status == 201


def test_a_token_for_scripts_needs_no_cookie_and_no_csrf_token(viewer: RealViewer) -> None:
    viewer.cookie = ""
    bearer = viewer.command("token", "--role", "operator", "--hours", "1").stdout.decode().strip()
    sent = {"Content_Type": "application/json", "Authorization": f"Bearer {bearer}"}
    assert viewer.request("POST", "/api/agents/one/tasks", SHELL, **sent).status == 201
    assert viewer.request("POST", "/api/agents/one/admin/check", None, **sent).status == 403
    sent["Authorization"] = f"Bearer {bearer[:-4]}AAAA"
    assert viewer.request("POST", "/api/agents/one/tasks", SHELL, **sent).status == 401


def test_a_token_for_scripts_ends_in_time(viewer: RealViewer) -> None:
    viewer.cookie = ""
    brief = viewer.command("token", "--hours", "1e-9").stdout.decode().strip()
    assert viewer.request("GET", "/", Authorization=f"Bearer {brief}", Accept="application/json").status == 401


def test_every_answer_carries_the_policy_errors_and_files_and_streams_too(viewer: RealViewer) -> None:
    strict = "default-src 'none'; script-src 'self'; style-src 'self'"
    for method, path in (
        ("GET", "/"),
        ("GET", "/?format=json"),
        ("GET", "/login"),
        ("GET", "/healthz"),
        ("GET", "/static/agentd.js"),
        ("GET", "/static/nothing"),
        ("GET", "/nothing"),
        ("PUT", "/"),
        ("POST", "/login/wrong"),
        ("POST", "/api/agents/one/tasks"),
        ("GET", "/a/other/s/x"),
        ("HEAD", "/"),
    ):
        headers = viewer.request(method, path).headers
        assert headers["content-security-policy"].startswith(strict), path
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["referrer-policy"] == "same-origin", path
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers
        assert headers["cache-control"] == ("no-cache" if path == "/static/agentd.js" else "no-store"), path
    request = f"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {viewer.cookie}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", viewer.port), timeout=60) as connection:
        connection.sendall(request)
        head = b""
        while b"event: hello" not in head:
            head += connection.recv(4096)
    assert strict.encode() in head and b"text/event-stream" in head


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"a" * LINE_BYTES + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 2 * HEADER_BYTES + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * MAX_HEADERS + b"\r\n", b"431"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", b"400"),
    ],
    ids=["a long line", "a long header", "many headers", "TLS", "two lengths", "a negative length"],
)
def test_what_is_no_request_is_answered_as_the_viewer_answers(
    viewer: RealViewer, request_: bytes, status: bytes
) -> None:
    found = raw(viewer, request_)
    assert found.split()[1] == status, found
    assert b"Content-Security-Policy: default-src 'none'" in found
    assert b"aiohttp" not in found.lower()


def test_a_form_that_is_too_large_is_refused(viewer: RealViewer) -> None:
    body = b"csrf=x&name=" + b"a" * (3 << 20)
    assert viewer.request("POST", "/logout", body, Content_Type=FORM).status == 413


def test_an_address_of_an_agent_never_comes_from_a_client(viewer: RealViewer) -> None:
    for name in ("http%3A%2F%2F127.0.0.1%3A9", "127.0.0.1", "..", "two"):
        answer = viewer.request("GET", f"/api/agents/{name}/status", Accept="application/json")
        assert answer.status in (400, 404), answer.body


def test_open_streams_end_when_the_viewer_stops(own_viewer: RealViewer) -> None:
    with socket.create_connection(("127.0.0.1", own_viewer.port), timeout=60) as connection:
        connection.sendall(f"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {own_viewer.cookie}\r\n\r\n".encode())
        head = b""
        while b"event: hello" not in head:
            head += connection.recv(4096)
        assert own_viewer.stop() == 0
        while connection.recv(4096):
            pass
    assert "error" not in own_viewer.log_text()


def test_markup_from_an_agent_runs_nowhere(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    task = daemon.shell(
        "build",
        "printf '%s\\n' '<script>window.ran=1</script><img src=x onerror=window.ran=1>'; exit 3",
        name=MARKUP,
        labels={"key": MARKUP[:60]},
    )
    daemon.wait(task["task_id"])
    edited = daemon.request("PATCH", "/sessions/build", {"title": MARKUP, "labels": {"key": MARKUP[:60]}})
    assert edited.status == 200, edited.body
    (daemon.data_dir / "sessions/build/artifacts").mkdir(exist_ok=True)
    (daemon.data_dir / "sessions/build/artifacts/<img src=x onerror=window.ran=1>.html").write_text(MARKUP)
    at = f"/a/one/s/build/t/{task['task_id']}"
    for path in ("/", "/a/one/s/build", at, f"{at}/log", "/history", "/queue", f"/?q={MARKUP[:20]}", "/nothing/<b>"):
        if path.startswith("/nothing"):
            assert b"<b>" not in viewer.request("GET", "/nothing/%3Cb%3E", Accept="text/html").body
            continue
        page.goto(viewer.url + path)
        assert page.evaluate("window.ran") is None, path
        assert page.locator("main img, main script:not([src])").count() == 0, path
    page.goto(f"{viewer.url}/")
    expect(page.locator("#row-one-build")).to_contain_text("<script>window.ran=1</script>")


def test_a_page_of_another_site_can_read_nothing(viewer: RealViewer, page: Page, watched: Watched) -> None:
    watched.expected += ["ERR_BLOCKED_BY_RESPONSE", "ERR_FAILED", "CORS policy"]
    page.route("http://evil.example/", lambda route: route.fulfill(body="<p>", content_type="text/html"))
    page.goto("http://evil.example/")
    read = "url => fetch(url, {credentials: 'include', mode: 'no-cors'}).then(() => 'read', () => 'refused')"
    assert page.evaluate(read, f"{viewer.url}/?format=json") == "refused"


def test_bad_input_is_the_clients_fault_and_the_log_is_lines_of_json(own_viewer: RealViewer) -> None:
    assert own_viewer.request("GET", "/?limit=%00", Accept="text/html").status == 400
    lines = [json.loads(line) for line in own_viewer.log_text().splitlines()]
    assert [line["event"] for line in lines] == ["viewer.ready", "login.done"]
    assert all({"at", "level", "event"} <= line.keys() for line in lines)
