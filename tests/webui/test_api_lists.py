"""`/api/sessions`, `/api/tasks` and what each agent is: several agents as one, each row with its agent."""

from __future__ import annotations

from pathlib import Path

from tests.daemon.harness import RealDaemon, until

from .conftest import MakeDaemon, MakeViewer
from .odd_agent import OddAgent, http_answer
from .viewer import RealViewer


def without_agent(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if name != "agent"}


def two(make_daemon: MakeDaemon, make_viewer: MakeViewer) -> tuple[dict[str, RealDaemon], RealViewer]:
    """Two agents with three ended tasks each, in turn, and a viewer over both."""
    daemons = {name: make_daemon(name).start() for name in ("one", "two")}
    for number in range(3):
        for name, daemon in daemons.items():
            daemon.wait(daemon.shell(f"{name}-{number}", "true")["task_id"])
    return daemons, make_viewer({name: daemon.data_dir for name, daemon in daemons.items()}).start().log_in()


def test_rows_of_all_agents_come_in_order_a_page_at_a_time_with_their_agent_and_nothing_else(
    make_daemon: MakeDaemon, make_viewer: MakeViewer
) -> None:
    daemons, viewer = two(make_daemon, make_viewer)
    for path, key, by in (("/tasks", "task_id", "created_at"), ("/sessions", "session_id", "updated_at")):
        rows, cursor = [], ""
        while cursor is not None:
            page = viewer.get(f"/api{path}?limit=2{'&cursor=' + cursor if cursor else ''}")
            assert page.keys() == {"data", "next", "agents", "partial"}
            assert len(page["data"]) <= 2
            rows += page["data"]
            cursor = page["next"]
        assert [row[by] for row in rows] == sorted((row[by] for row in rows), reverse=True)
        for name, daemon in daemons.items():
            there = {row[key]: row for row in daemon.get(path)["data"]}
            assert {row[key]: without_agent(row) for row in rows if row["agent"] == name} == there
    assert [row["agent"] for row in viewer.get("/api/tasks?sort=created_at")["data"]] == ["one", "two"] * 3


def test_parameters_are_the_agents_own_and_one_agent_may_be_asked_for(
    make_daemon: MakeDaemon, make_viewer: MakeViewer
) -> None:
    daemons, viewer = two(make_daemon, make_viewer)
    daemons["two"].wait(daemons["two"].shell("two-0", "false")["task_id"])
    failed = viewer.get("/api/tasks?state=failed&state=timeout&kind=shell")["data"]
    assert [(row["agent"], row["session_id"]) for row in failed] == [("two", "two-0")]
    assert {row["agent"] for row in viewer.get("/api/sessions?agent=one")["data"]} == {"one"}
    assert [row["session_id"] for row in viewer.get("/api/sessions?q=two-1")["data"]] == ["two-1"]
    for path, status, text in (
        ("/api/tasks?bogus=1", 400, "bogus"),
        ("/api/tasks?state=bogus", 400, "state"),
        ("/api/tasks?limit=0", 400, "limit"),
        ("/api/tasks?sort=name", 400, "sort"),
        ("/api/tasks?cursor=x", 400, "cursor"),
        ("/api/tasks?agent=none", 404, "none"),
    ):
        answer = viewer.request("GET", path)
        assert (answer.status, text in answer.json["detail"]) == (status, True), answer.body


def test_a_list_without_an_agent_is_partial_and_says_who_and_why(
    make_daemon: MakeDaemon, make_viewer: MakeViewer
) -> None:
    daemons, viewer = two(make_daemon, make_viewer)
    daemons["two"].kill9()
    page = until(lambda: found if (found := viewer.get("/api/tasks"))["partial"] else None)
    assert {row["agent"] for row in page["data"]} == {"one"}
    assert [(each["agent"], each["status"]) for each in page["agents"]] == [("one", "fresh"), ("two", "unreachable")]
    strict = viewer.request("GET", "/api/tasks?strict=1")
    assert (strict.status, strict.json["partial"]) == (503, True)
    assert viewer.request("GET", "/api/tasks?strict=1&agent=one").status == 200
    assert viewer.request("GET", "/api/agents?strict=1").status == 503


def test_an_agent_that_hangs_delays_a_list_no_longer_than_asked(
    daemon: RealDaemon, make_viewer: MakeViewer, tmp_path: Path
) -> None:
    daemon.wait(daemon.shell("build", "true")["task_id"])
    with OddAgent() as odd:
        viewer = make_viewer({"one": daemon.data_dir, "odd": odd.url}, *odd.flags(tmp_path)).start().log_in()
        page = until(lambda: found if (found := viewer.get("/api/tasks", Prefer="wait=2"))["data"] else None)
        assert [row["agent"] for row in page["data"]] == ["one"]
        assert [each["reason_code"] for each in page["agents"]] == [None, "read_timeout"]
        assert page["agents"][1]["reason"] == "it did not answer within 2 s"


def test_an_agent_cannot_speak_for_another(daemon: RealDaemon, make_viewer: MakeViewer, tmp_path: Path) -> None:
    body = b'{"data": [{"task_id": "x", "agent": "one", "created_at": "2030", "future": {"a": [1]}}], "next": null}'
    with OddAgent(http_answer(body)) as odd:
        viewer = make_viewer({"one": daemon.data_dir, "odd": odd.url}, *odd.flags(tmp_path)).start().log_in()
        row = {"task_id": "x", "agent": "odd", "created_at": "2030", "future": {"a": [1]}}
        assert viewer.get("/api/tasks")["data"] == [row]


def test_each_agent_tells_what_it_is_who_works_and_what_waits(viewer: RealViewer, daemon: RealDaemon) -> None:
    running = daemon.shell("build", "sleep 100")["task_id"]
    behind = daemon.shell("build", "true")["task_id"]
    daemon.state(running, "running")
    agents = viewer.get("/api/agents")
    assert [(row["agent"], row["state"]) for row in agents["data"]] == [("one", "working")]
    assert [(each["agent"], each["status"], each["role"]) for each in agents["agents"]] == [("one", "fresh", "admin")]
    (queue,) = viewer.get("/api/queue")["data"]
    assert (queue["agent"], queue["depth"], [row["task_id"] for row in queue["data"]]) == ("one", 1, [behind])
    (workers,) = viewer.get("/api/workers")["data"]
    assert workers["agent"] == "one"
    assert running in {row["task_id"] for row in workers["data"]}
