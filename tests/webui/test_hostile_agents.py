"""Agents that mean harm, beside a good one: none makes an error of the viewer's, or hides the other."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from .bad_agents import BadAgent
from .odd_agent import OddAgent, http_answer
from .viewer import RealViewer

LIST = b'{"data": [], "next": null}'
HOSTILE = {
    "a role that is no text": http_answer(LIST).replace(b"Connection", b"Agentd-Role: \xff\xfe\r\nConnection"),
    "a reason that is no text": http_answer(b"{}", status="404 X").replace(b"404 X", b"404 \xff\xfe"),
    "a status that nobody knows": http_answer(b'{"code": "x"}', status="499 What"),
    "a status beyond all": http_answer(b'{"code": "x"}', status="999 What"),
    "nothing, and well": b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
    "lists without their heads": http_answer(LIST),
}
TASK = "/a/odd/s/x/t/y"
PAGES = [
    *("/", "/history", "/queue", "/workers", "/agents", "/analytics", "/settings", "/new?agent=odd"),
    *("/a/odd/cleanup", "/a/odd/reset", "/a/odd/s/x", "/a/odd/s/x/artifacts/f", TASK, f"{TASK}/log"),
    *(f"{TASK}/log/{each}attempt=1" for each in ("raw?", "lines?", "search?q=a&")),
    *("/api/agents", "/api/sessions", "/api/tasks", "/api/queue", "/api/workers"),
]


@pytest.fixture(scope="module")
def odd() -> Iterator[OddAgent]:
    with OddAgent() as agent:
        yield agent


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory, odd: OddAgent) -> Iterator[RealViewer]:
    """A viewer over a good agent and the odd one."""
    place = tmp_path_factory.mktemp("beside")
    with ExitStack() as stack:
        good = stack.enter_context(BadAgent("good", sessions=1))
        viewer = RealViewer(place, {"good": good.url, "odd": odd.url}, *good.flags(place), *odd.flags(place))
        stack.callback(viewer.end)
        yield viewer.start().log_in()


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_no_answer_of_an_agent_is_an_error_of_the_viewers(beside: RealViewer, odd: OddAgent, answer: bytes) -> None:
    odd.answer = answer
    for path in PAGES:
        for accept in ("text/html", "application/json"):
            found = beside.request("GET", path, Accept=accept)
            assert found.status != 500, (path, accept, found.body)
    assert [row["agent"] for row in beside.get("/api/sessions")["data"]] == ["good"]


@pytest.mark.parametrize("path", ["/", "/queue", "/workers", "/history", TASK])
def test_more_rows_and_values_than_any_agent_gives_are_not_drawn(beside: RealViewer, odd: OddAgent, path: str) -> None:
    ids = {"agent_id": "o", "session_id": "x", "task_id": "y", "worker_id": "z", "state": "running", "type": "t"}
    body = {**ids, "data": [ids] * 1001, "next": None, "attempts": [{"n": 1}] * 100_001}
    odd.answer = http_answer(json.dumps(body).encode())
    contact = next(each for each in beside.get(path)["agents"] if each["agent"] == "odd")
    assert (contact["status"], contact["reason_code"]) == ("incompatible", "too_large")


@pytest.mark.parametrize("path", ["/live", "/api/events"])
@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_no_answer_of_an_agent_ends_the_stream_of_the_others(
    beside: RealViewer, odd: OddAgent, answer: bytes, path: str
) -> None:
    odd.answer = answer
    connection = http.client.HTTPConnection("127.0.0.1", beside.port, timeout=60)
    try:
        connection.request("GET", path, headers={"Cookie": beside.cookie})
        stream = connection.getresponse()
        told: dict[str, str] = {}
        while told.get("good") != "fresh" or "odd" not in told:  # a good one may be slow at first
            line = stream.readline()
            assert line, told
            if line.startswith(b'data: {"agent":'):
                contact = json.loads(line[6:])
                told[contact["agent"]] = contact["status"]
        assert told["odd"] != "fresh"
    finally:
        connection.close()


@pytest.mark.parametrize(
    "data", [b"[" * 5000, b'{"a":' * 5000, b'{"task_id":"\xff"}'], ids=["arrays", "objects", "bytes"]
)
def test_an_event_that_is_no_json_of_ours_ends_nobodys_stream(beside: RealViewer, odd: OddAgent, data: bytes) -> None:
    events = b"event: hello\ndata: {}\n\nevent: task.finished\ndata: " + data + b"\n\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    odd.answer, odd.hold = head + events, True
    connection = http.client.HTTPConnection("127.0.0.1", beside.port, timeout=60)
    try:
        connection.request("GET", "/live", headers={"Cookie": beside.cookie})
        stream = connection.getresponse()
        while b'"odd"' not in (line := stream.readline()):
            assert line, beside.log_text()
        assert stream.readline(), beside.log_text()
        assert "RecursionError" not in beside.log_text() and "UnicodeDecodeError" not in beside.log_text()
    finally:
        odd.hold = False
        connection.close()
