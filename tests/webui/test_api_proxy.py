"""`/api/agents/{agent}/…`: the agents' own endpoints through a real viewer, and nothing but those."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.daemon.harness import Answer, RealDaemon, until
from webui.api.proxy import REQUEST_HEADERS

from .conftest import MakeViewer
from .odd_agent import OddAgent, http_answer
from .viewer import RealViewer

MIB = 1 << 20
JSON = {"Content-Type": "application/json"}


def call(viewer: RealViewer, method: str, path: str, body: object = None, **headers: str) -> Answer:
    """A write as the viewer's own pages send it."""
    sent = {"X-CSRF-Token": viewer.csrf, **(JSON if body is not None else {}), **headers}
    return viewer.request(method, "/api" + path, None if body is None else json.dumps(body).encode(), **sent)


@pytest.fixture
def odd(tmp_path: Path, make_viewer: MakeViewer) -> Iterator[Any]:
    """An odd agent and a viewer in front of it; with another answer each time."""
    with OddAgent() as agent:
        viewer = make_viewer({"odd": agent.url}, *agent.flags(tmp_path)).start().log_in()

        def make(answer: bytes = b"", *, hold: bool = False) -> tuple[OddAgent, RealViewer]:
            agent.answer, agent.hold = answer, hold or not answer
            return agent, viewer

        yield make


# ------------------------------------------------------------------ faithful


def test_an_endpoint_answers_as_at_the_agent_itself(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = daemon.shell("build", "true")
    daemon.wait(task["task_id"])
    for path in (f"/tasks/{task['task_id']}", "/sessions?limit=1&q=build", "/openapi.json", "/tasks/none", "/none"):
        here, there = viewer.request("GET", f"/api/agents/one{path}"), daemon.request("GET", path)
        own = {"request_id": ""}
        same = [{**json.loads(each.body), **own} for each in (here, there)]
        assert (here.status, same[0]) == (there.status, same[1])
        assert here.headers.get("etag") == there.headers.get("etag")
    assert viewer.request("GET", "/api/agents/one/tasks?bogus=1").json["code"] == "malformed"


def test_conditions_ranges_and_heads_reach_the_agent(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = daemon.shell("build", "printf 0123456789")
    daemon.wait(task["task_id"])
    path = f"/api/agents/one/tasks/{task['task_id']}"
    etag = viewer.request("GET", path).headers["etag"]
    known = viewer.request("GET", path, If_None_Match=etag)
    assert (known.status, known.body) == (304, b"")
    part = viewer.request("GET", path + "/output", Range="bytes=2-4")
    assert (part.status, part.body, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    head = viewer.request("HEAD", path + "/output")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "10")
    assert viewer.request("GET", path + "/output", Range="bytes=50-").status == 416


def test_a_task_is_started_cancelled_and_retried_and_a_key_counts_once(viewer: RealViewer, daemon: RealDaemon) -> None:
    new = {"session_id": "build", "spec": {"command": "sleep 100"}}
    first = call(viewer, "POST", "/agents/one/tasks", new, Idempotency_Key="k1")
    assert (first.status, first.headers["location"]) == (201, f"/api/agents/one/tasks/{first.json['task_id']}")
    again = call(viewer, "POST", "/agents/one/tasks", new, Idempotency_Key="k1")
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json["task_id"] == first.json["task_id"]
    task_id = first.json["task_id"]
    daemon.state(task_id, "running")
    assert call(viewer, "DELETE", f"/agents/one/tasks/{task_id}").status == 202
    daemon.wait(task_id)
    assert call(viewer, "POST", f"/agents/one/tasks/{task_id}/cancel").status == 409
    assert call(viewer, "POST", f"/agents/one/tasks/{task_id}/retry").status == 201
    assert viewer.request("GET", first.headers["location"]).json["state"] == "cancelled"


def test_a_wait_is_as_long_as_it_was_asked_to_be(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = daemon.shell("build", "sleep 1")
    answer = viewer.request("GET", f"/api/agents/one/tasks/{task['task_id']}/wait?timeout_s=60")
    assert answer.json["state"] == "completed"


def test_a_large_artifact_goes_up_and_comes_down_in_little_memory(
    own_viewer: RealViewer, daemon: RealDaemon, tmp_path: Path
) -> None:
    viewer = own_viewer
    daemon.wait(daemon.shell("build", "true")["task_id"])
    csrf, before, size = viewer.csrf, viewer.peak_mib, 200 * MIB
    file = tmp_path / "large"
    with open(file, "wb") as out:
        out.truncate(size)
    path = "/api/agents/one/sessions/build/artifacts/out/large.bin"
    connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=60)
    headers = {"Cookie": viewer.cookie, "X-CSRF-Token": csrf, "Content-Length": str(size)}
    with open(file, "rb") as source:
        connection.request("PUT", path, source, headers)
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["size"]) == (201, size)
        assert response.getheader("Location") == path
    connection.request("GET", path, headers={"Cookie": viewer.cookie})
    response = connection.getresponse()
    got = 0
    while block := response.read(MIB):
        got += len(block)
    connection.close()
    assert (got, response.getheader("Content-Disposition")) == (size, "attachment")
    assert viewer.peak_mib - before < 32


def test_an_upload_that_breaks_off_leaves_nothing(viewer: RealViewer, daemon: RealDaemon) -> None:
    daemon.wait(daemon.shell("build", "true")["task_id"])
    head = ["PUT /api/agents/one/sessions/build/artifacts/cut HTTP/1.1", "Host: 127.0.0.1", f"Cookie: {viewer.cookie}"]
    for size in ("Transfer-Encoding: chunked", "Content-Length: 100"):
        lines = [*head, f"X-CSRF-Token: {viewer.csrf}", size, "", "5", "hello", ""]
        with socket.create_connection(("127.0.0.1", viewer.port)) as connection:
            connection.sendall("\r\n".join(lines).encode())
            until(lambda: _temporary(daemon))
        until(lambda: not _temporary(daemon))
        assert viewer.request("GET", "/api/agents/one/sessions/build/artifacts/cut").status == 404


def _temporary(daemon: RealDaemon) -> list[Path]:
    """What is being put into place in the session's artifacts."""
    return [path for path in (daemon.data_dir / "sessions/build/artifacts").rglob("*") if path.is_file()]


# ------------------------------------------------------------------ streams


def _stream(
    viewer: RealViewer, path: str, **headers: str
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=60)
    connection.request("GET", path, headers={"Cookie": viewer.cookie, "Accept": "text/event-stream", **headers})
    return connection, connection.getresponse()


def test_a_stream_comes_as_it_happens_and_goes_on_where_it_broke_off(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = daemon.shell("build", "echo one; while [ ! -e go ]; do sleep 0.05; done; echo two")
    path = f"/api/agents/one/tasks/{task['task_id']}/stream"
    connection, response = _stream(viewer, path)
    heard = b""
    while b'"text":"one' not in heard:
        heard += response.readline()
    connection.close()
    last_id = re.findall(rb"^id: (.+)$", heard, re.M)[-1].decode()
    (daemon.data_dir / "sessions/build/workspace/go").touch()
    connection, response = _stream(viewer, path, **{"Last-Event-ID": last_id})
    rest = response.read()
    connection.close()
    assert b'"text":"two' in rest and b'"text":"one' not in rest and b"event: end" in rest


def test_when_the_client_goes_the_agent_is_let_go(odd: Any) -> None:
    streaming = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: hello\ndata: {}\n\n"
    for answer in (streaming, b""):  # one that is read, one that has yet to come
        agent, viewer = odd(answer, hold=True)
        connections = [socket.create_connection(("127.0.0.1", viewer.port)) for _ in range(12)]
        for connection in connections:
            head = f"GET /api/agents/odd/events HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {viewer.cookie}\r\n\r\n"
            connection.sendall(head.encode())
        until(lambda agent=agent: agent.open == 12)  # type: ignore[misc]
        for connection in connections:
            connection.close()
        until(lambda agent=agent: agent.open == 0)  # type: ignore[misc]


# ------------------------------------------------------------------ what cannot get through


OUTSIDE = (
    "../status",
    "x/../../status",
    "%2e%2e/status",
    "sessions/%2e%2e%2f%2e%2e/status",
    "sessions/..%5c..%5cstatus",
    "/status",
    "//evil.example/status",
    "",
    "tasks/",
    "tasks/a%0d%0aX-Evil:%201",
    "tasks/%00",
    "tasks/%ff",
    "./status",
)


def test_a_path_cannot_leave_the_api(viewer: RealViewer) -> None:
    for path in OUTSIDE:
        answer = viewer.request("GET", f"/api/agents/one/{path}")
        assert (answer.status, answer.json["code"]) == (400, "malformed"), path


def test_only_configured_names_are_agents(viewer: RealViewer) -> None:
    for name in ("none", "127.0.0.1:1", "one@127.0.0.1:1", "http:%2f%2f127.0.0.1", "%6fne%00", "@"):
        answer = viewer.request("GET", f"/api/agents/{name}/status")
        assert (answer.status, answer.json["code"]) == (404, "agent_not_found"), name


def test_what_is_written_behind_the_name_stays_a_path(odd: Any) -> None:
    agent, viewer = odd(http_answer(b"{}"))
    viewer.request("GET", "/api/agents/odd/@127.0.0.1:1/%40x;y=1/a%20b?next=http://evil.example/%0d%0a")
    assert agent.requests[0].startswith(
        b"GET /@127.0.0.1:1/%40x;y=1/a%20b?next=http://evil.example/%0d%0a HTTP/1.1\r\n"
    )


def test_an_agent_hears_the_viewers_token_and_few_headers(odd: Any) -> None:
    agent, viewer = odd(http_answer(b"{}"))
    call(viewer, "POST", "/agents/odd/tasks", {}, X_Evil="1", Idempotency_Key="k", Origin=viewer.url)
    head = agent.requests[-1].decode().lower()
    names = {line.partition(":")[0] for line in head.split("\r\n\r\n")[0].split("\r\n")[1:]}
    plain = {"host", "authorization", "accept", "accept-encoding", "user-agent"}
    assert names <= plain | {name.lower() for name in REQUEST_HEADERS}
    assert "idempotency-key: k" in head and "authorization: bearer odd-token" in head
    assert viewer.cookie.lower() not in head


def test_a_write_takes_the_csrf_token_and_the_role(
    viewer: RealViewer, daemon: RealDaemon, make_viewer: MakeViewer
) -> None:
    new = json.dumps({"spec": {"command": "true"}}).encode()
    bare = viewer.request("POST", "/api/agents/one/tasks", new, Content_Type="application/json")
    assert (bare.status, bare.json["code"]) == (403, "csrf")
    form = f"csrf={viewer.csrf}".encode()
    sent = viewer.request("POST", "/api/agents/one/shutdown", form, Content_Type="application/x-www-form-urlencoded")
    assert (sent.status, sent.json["code"]) == (403, "csrf")
    foreign = call(viewer, "POST", "/agents/one/tasks", {"spec": {"command": "true"}}, Origin="http://evil.example")
    assert foreign.status == 403
    assert daemon.get("/tasks")["data"] == []


def test_a_login_that_may_only_look_writes_nothing_however_it_is_spelled(
    viewer: RealViewer, daemon: RealDaemon
) -> None:
    command = [sys.executable, "-m", "webui.main", "--secret-file", str(viewer.place / "secret"), "link", "--role"]

    def log_in(role: str) -> None:
        link = subprocess.run([*command, role], capture_output=True, text=True, check=True, cwd=viewer.place).stdout
        viewer.cookie = ""
        answer = viewer.request("POST", urlsplit(link.strip()).path)
        viewer.cookie = answer.headers["set-cookie"].split(";")[0]

    log_in("viewer")
    assert viewer.request("GET", "/api/agents/one/status").status == 200
    assert call(viewer, "POST", "/agents/one/tasks", {"spec": {"command": "true"}}).json["code"] == "forbidden"
    log_in("operator")
    assert call(viewer, "POST", "/agents/one/tasks", {"spec": {"command": "true"}}).status == 201
    for path in ("/shutdown", "/%73hutdown", "/admin/reset", "/workers/scale"):
        assert call(viewer, "POST", f"/agents/one{path}", {}).json["code"] == "forbidden"
    assert daemon.get("/status")["state"] != "draining"


def test_what_could_run_as_a_page_of_ours_is_only_bytes_to_save(odd: Any) -> None:
    for kind in ("text/html", "image/svg+xml", "text/javascript", "application/xhtml+xml; charset=utf-8"):
        _, viewer = odd(
            http_answer(b"<script>1</script>", kind, "200 OK", "Set-Cookie: a=b", "Access-Control-Allow-Origin: *")
        )
        answer = viewer.request("GET", "/api/agents/odd/x")
        assert answer.body == b"<script>1</script>"
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"] == "attachment"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("sandbox")
        assert not {"set-cookie", "access-control-allow-origin"} & answer.headers.keys()


def test_a_location_of_elsewhere_is_not_passed_on(odd: Any) -> None:
    for there, here in (
        ("//evil.example", None),
        ("http://evil.example", None),
        ("/tasks/a", "/api/agents/odd/tasks/a"),
    ):
        _, viewer = odd(http_answer(b"{}", "application/json", "201 Created", f"Location: {there}"))
        assert viewer.request("GET", "/api/agents/odd/x").headers.get("location") == here


# ------------------------------------------------------------------ agents in trouble


def test_an_agent_in_trouble_is_a_problem_with_its_name_and_a_reason(odd: Any, make_viewer: MakeViewer) -> None:
    moved = http_answer(b"", "text/plain", "302 Found", "Location: http://127.0.0.1:1/")
    for answer, status, reason in (
        (moved, 502, "redirect"),
        (b"nonsense\r\n\r\n", 502, "bad_body"),
        (http_answer(b"{}", status="401 Unauthorized"), 401, "token_rejected"),
    ):
        _, viewer = odd(answer)
        found = viewer.request("GET", "/api/agents/odd/status")
        assert (found.status, found.json["agent"], found.json["reason_code"]) == (status, "odd", reason), found.body
        assert found.headers["content-type"] == "application/problem+json"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    viewer = make_viewer({"gone": f"http://127.0.0.1:{port}"}, name="v").start().log_in()
    assert viewer.request("GET", "/api/agents/gone/status").json["reason_code"] == "no_token"
    assert viewer.request("GET", "/api/agents/gone/status").status == 401


def test_an_agent_that_does_not_run_is_502_until_it_does(viewer: RealViewer, daemon: RealDaemon) -> None:
    daemon.kill9()
    until(lambda: viewer.request("GET", "/api/agents/one/status").status == 502)
    assert viewer.request("GET", "/api/agents/one/status").json["code"] == "agent_unreachable"
    daemon.start()
    until(lambda: viewer.request("GET", "/api/agents/one/status").status == 200)


def test_half_an_answer_does_not_look_whole(odd: Any) -> None:
    _, viewer = odd(http_answer(b'{"half":', length=1000))
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        viewer.request("GET", "/api/agents/odd/x")
    _, viewer = odd(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        viewer.request("GET", "/api/agents/odd/x")


def test_who_is_not_logged_in_gets_a_problem_not_a_page(viewer: RealViewer) -> None:
    viewer.cookie = ""
    answer = viewer.request("GET", "/api/agents/one/status")
    assert (answer.status, answer.json["code"]) == (401, "unauthorized")
    assert "agent" not in answer.json


def test_behind_a_prefix_the_api_is_the_same(daemon: RealDaemon, make_viewer: MakeViewer) -> None:
    viewer = make_viewer({"one": daemon.data_dir}, "--public-url", "http://127.0.0.1/tools/agents").start()
    viewer.log_in()
    csrf = viewer.request("GET", "/tools/agents/agents", Accept="text/html").body.decode()
    token = re.search(r'name="csrf-token" content="([0-9a-f]+)"', csrf)
    assert token is not None
    new = json.dumps({"spec": {"command": "true"}}).encode()
    path = "/tools/agents/api/agents/one/tasks"
    made = viewer.request("POST", path, new, X_CSRF_Token=token[1], Content_Type="application/json")
    assert (made.status, made.headers["location"]) == (201, f"{path}/{made.json['task_id']}")
    assert viewer.request("GET", made.headers["location"]).status == 200
    assert viewer.request("GET", "/tools/agents/api/agents/one/../status").status == 400
