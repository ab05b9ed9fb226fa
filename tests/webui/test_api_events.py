"""`/api/events`: the events of several agents as one stream that goes on where it broke off."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from .conftest import MakeDaemon, MakeViewer
from .odd_agent import OddAgent
from .viewer import RealViewer

#: How an odd agent's stream begins.
BEGINNING = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nid: b-0\nevent: hello\ndata: {}\n\n"


class Event(NamedTuple):
    id: str | None
    type: str
    data: dict[str, Any]


class Reader:
    """Events of a stream, one after the other."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self._end = time.monotonic() + 60
        self.headers = response.headers
        self.last_id = ""

    def next(self) -> Event:
        fields: dict[str, str] = {}
        while True:
            line = self._response.readline().decode()
            assert line, "the stream ended"
            assert time.monotonic() < self._end, "it does not come"
            name, _, value = line.rstrip("\n").partition(":")
            if name:
                fields[name] = value.strip()
            elif line == "\n" and "data" in fields:
                self.last_id = fields.get("id", self.last_id)
                return Event(fields.get("id"), fields["event"], json.loads(fields["data"]))

    def until(self, kind: str, **wanted: object) -> Event:
        """The next event of a type with these fields."""
        while True:
            event = self.next()
            if event.type == kind and wanted.items() <= event.data.items():
                return event


@contextmanager
def reading(viewer: RealViewer, query: str = "", **headers: str) -> Iterator[Reader]:
    connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=60)
    try:
        connection.request("GET", "/api/events" + query, headers={"Cookie": viewer.cookie, **headers})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        yield Reader(response)
    finally:
        connection.close()


def test_events_of_all_agents_come_as_they_are_with_their_agent(
    make_daemon: MakeDaemon, make_viewer: MakeViewer
) -> None:
    daemons = {name: make_daemon(name).start() for name in ("one", "two")}
    viewer = make_viewer({name: daemon.data_dir for name, daemon in daemons.items()}).start().log_in()
    with reading(viewer) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        hello = stream.next()
        assert (hello.type, hello.data) == ("hello", {"agents": ["one", "two"]})
        for name in daemons:
            with reading(viewer, f"?agent={name}") as narrow:
                assert narrow.next().data == {"agents": [name]}
        reached = {stream.until("hello").data["agent"] for _ in daemons}
        assert reached == {"one", "two"}
        for name, daemon in daemons.items():
            task_id = daemon.shell("build", "true")["task_id"]
            finished = stream.until("task.finished", task_id=task_id).data
            journal = [
                event for event in daemon.get("/sessions/build/events")["data"] if event["seq"] == finished["seq"]
            ]
            assert journal == [{key: value for key, value in finished.items() if key != "agent"}]
            assert finished["agent"] == name


def test_a_stream_that_broke_off_goes_on_at_every_agent_even_at_another_viewer(
    make_daemon: MakeDaemon, make_viewer: MakeViewer
) -> None:
    daemons = {name: make_daemon(name).start() for name in ("one", "two")}
    viewer = make_viewer({name: daemon.data_dir for name, daemon in daemons.items()}).start().log_in()
    with reading(viewer) as stream:
        for _ in daemons:
            stream.until("agent", status="fresh")
            stream.until("hello")
        last_id = stream.last_id
    viewer.kill9()
    missed = {name: daemon.shell("build", "true")["task_id"] for name, daemon in daemons.items()}
    for name, daemon in daemons.items():
        daemon.wait(missed[name])
    viewer.start()
    for headers, query in (({"Last-Event-ID": last_id}, ""), ({}, f"?after={last_id}")):
        with reading(viewer, query, **headers) as stream:
            told: dict[str, list[str]] = {"one": [], "two": []}
            while any("task.finished" not in types for types in told.values()):
                event = stream.next()
                if (agent := event.data.get("agent")) and event.data.get("task_id") == missed[agent]:
                    told[agent].append(event.type)
            assert all(types[0] == "task.created" for types in told.values())
            assert all(len(types) == len(set(types)) for types in told.values())


def test_it_is_told_when_an_agent_is_lost_and_when_it_is_back_and_that_events_may_be_missing(
    make_daemon: MakeDaemon, make_viewer: MakeViewer
) -> None:
    daemon = make_daemon().start()
    viewer = make_viewer({"one": daemon.data_dir}).start().log_in()
    with reading(viewer) as stream:
        stream.until("agent", status="fresh")
        daemon.kill9()
        lost = stream.until("agent", agent="one", status="unreachable").data
        assert lost["reason"] and lost["tried_at"]
        daemon.start()
        stream.until("agent", agent="one", status="fresh")
        gap = stream.until("gap", agent="one").data
        assert gap["reason"] == "restarted"
        task_id = daemon.shell("build", "true")["task_id"]
        stream.until("task.finished", task_id=task_id)


def test_an_agent_cannot_break_out_of_its_own_event(make_viewer: MakeViewer, tmp_path: Path) -> None:
    said = b'id: a,b:%41\nevent: x\rdata: {"agent":"one"}\ndata: {"agent": "one",\ndata: "n": 1\r}\n\n'
    with OddAgent(BEGINNING + said, hold=True) as odd:
        viewer = make_viewer({"odd": odd.url}, *odd.flags(tmp_path)).start().log_in()
        with reading(viewer) as stream:
            event = stream.until('x data: {"agent":"one"}')
            assert event.data == {"agent": "odd", "n": 1}
            assert event.id == "odd:a%2Cb%3A%2541"


def test_an_id_that_is_none_is_refused(viewer: RealViewer) -> None:
    for after in ("x", "one", "one:", "one:a,", ":a", "one:%0d%0a", "../x:a"):
        answer = viewer.request("GET", "/api/events", Last_Event_ID=after)
        assert (answer.status, answer.json["code"]) == (400, "malformed"), after


def test_a_reader_that_takes_nothing_is_not_buffered_for_and_loses_nothing(
    make_viewer: MakeViewer, tmp_path: Path
) -> None:
    many, text = 5_000, "y" * 20_000
    said = b"".join(f'event: e\ndata: {{"n":{number},"x":"{text}"}}\n\n'.encode() for number in range(many))
    with OddAgent(BEGINNING + said, hold=True) as odd:  # 100 MB
        viewer = make_viewer({"odd": odd.url}, *odd.flags(tmp_path)).start().log_in()
        before = viewer.peak_mib
        with reading(viewer) as stream:
            assert [stream.until("e").data["n"] for _ in range(many)] == list(range(many))
        assert viewer.peak_mib - before < 40
