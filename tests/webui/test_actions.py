"""What people do to tasks, sessions, workers and agents: done at the agent, or refused and said why; never guessed."""

from __future__ import annotations

import html
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.daemon.harness import Answer, RealDaemon, until

from .conftest import MakeDaemon, MakeViewer
from .inventing_agent import InventingAgent
from .viewer import RealViewer


def sessions_of(daemon: RealDaemon) -> list[str]:
    return [row["session_id"] for row in daemon.get("/sessions?archived=any")["data"]]


def test_a_task_is_cancelled_and_the_way_leads_back_to_where_the_button_was(
    viewer: RealViewer, daemon: RealDaemon
) -> None:
    task = daemon.shell("build", "sleep 100")
    daemon.state(task["task_id"], "running")
    answer = viewer.post(f"/a/one/s/build/t/{task['task_id']}/cancel", back="/queue?agent=one")
    assert (answer.status, answer.headers["location"]) == (303, "/queue?agent=one")
    assert daemon.wait(task["task_id"])["state"] == "cancelled"


@pytest.mark.parametrize("back", ["//evil.example/", "https://evil.example/", "/\\evil.example", "relative", "/x\r\ny"])
def test_the_way_back_never_leads_elsewhere(viewer: RealViewer, daemon: RealDaemon, back: str) -> None:
    task = daemon.shell("build", "sleep 100")
    answer = viewer.post(f"/a/one/s/build/t/{task['task_id']}/cancel", back=back)
    assert answer.headers["location"] == f"/a/one/s/build/t/{task['task_id']}"


def test_cancelling_what_has_ended_says_so_and_what_to_do(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = daemon.wait(daemon.shell("build", "true")["task_id"])
    answer = viewer.post(f"/a/one/s/build/t/{task['task_id']}/cancel")
    assert answer.status == 409
    text = answer.body.decode()
    assert "Cancel the task: not done" in text
    assert "its page shows how it stands" in text


def test_a_retry_is_one_new_task_however_often_its_form_is_sent(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = daemon.wait(daemon.shell("build", "exit 3")["task_id"])
    first = viewer.post(f"/a/one/s/build/t/{task['task_id']}/retry", key="k1")
    again = viewer.post(f"/a/one/s/build/t/{task['task_id']}/retry", key="k1")
    assert first.status == 303
    assert first.headers["location"] == again.headers["location"]
    tasks = daemon.get("/sessions/build/tasks")["data"]
    assert sorted(each["retry_of"] or "" for each in tasks) == ["", task["task_id"]]


def test_all_tasks_of_a_session_are_cancelled_after_a_question_that_says_how_many(
    viewer: RealViewer, daemon: RealDaemon
) -> None:
    running = daemon.shell("build", "sleep 100")
    queued = daemon.shell("build", "sleep 100")
    daemon.state(running["task_id"], "running")
    assert "1 running and 1 queued" in viewer.html("/a/one/s/build/cancel")
    assert viewer.post("/a/one/s/build/cancel").headers["location"] == "/a/one/s/build"
    assert {daemon.wait(each["task_id"])["state"] for each in (running, queued)} == {"cancelled"}


def test_title_and_labels_are_edited(viewer: RealViewer, daemon: RealDaemon) -> None:
    daemon.wait(daemon.shell("build", "true")["task_id"])
    fields = {"field:title": "The build", "field:labels": "team=web\r\nempty=\r\n"}
    assert viewer.post("/a/one/s/build/edit", **fields, was='{"title":null,"labels":{}}').status == 303
    session = daemon.get("/sessions/build")
    assert (session["title"], session["labels"]) == ("The build", {"team": "web", "empty": ""})
    assert 'value="The build"' in viewer.html("/a/one/s/build/edit")


def test_an_edit_over_that_of_somebody_else_shows_both_and_loses_neither(
    viewer: RealViewer, daemon: RealDaemon
) -> None:
    daemon.wait(daemon.shell("build", "true")["task_id"])
    daemon.request("PATCH", "/sessions/build", {"title": "theirs"})
    fields = {"field:title": "mine", "field:labels": "", "was": '{"title":null,"labels":{}}'}
    answer = viewer.post("/a/one/s/build/edit", **fields)
    page = answer.body.decode()
    assert answer.status == 409
    assert 'value="mine"' in page
    assert "Title is now: theirs" in page
    assert daemon.get("/sessions/build")["title"] == "theirs"
    was = re.search(r'name="was" value="([^"]*)"', page)
    assert was is not None
    assert viewer.post("/a/one/s/build/edit", **{**fields, "was": html.unescape(was[1])}).status == 303
    assert daemon.get("/sessions/build")["title"] == "mine"


def test_edits_of_different_fields_at_the_same_time_are_both_kept(viewer: RealViewer, daemon: RealDaemon) -> None:
    daemon.wait(daemon.shell("build", "true")["task_id"])
    daemon.request("PATCH", "/sessions/build", {"labels": {"team": "theirs"}})
    fields = {"field:title": "mine", "field:labels": "", "was": '{"title":null,"labels":{}}'}
    assert viewer.post("/a/one/s/build/edit", **fields).status == 303
    session = daemon.get("/sessions/build")
    assert (session["title"], session["labels"]) == ("mine", {"team": "theirs"})


def test_a_budget_is_set_and_taken_away_and_an_edit_of_the_title_leaves_it(
    viewer: RealViewer, daemon: RealDaemon
) -> None:
    daemon.wait(daemon.shell("build", "true")["task_id"])

    def save(**budget: str) -> int:
        was = re.search(r'name="was" value="([^"]*)"', viewer.html("/a/one/s/build/edit"))
        assert was is not None
        fields = {f"field:budget.{name}": value for name, value in budget.items()}
        return viewer.post("/a/one/s/build/edit", **fields, was=html.unescape(was[1])).status

    def budget() -> dict[str, float] | None:
        found = daemon.get("/sessions/build")["policy"]["budget"]
        return found and {name: most for name, most in found.items() if most is not None}

    assert save(max_cost_usd="2.5", max_tokens="1000", max_wall_s="") == 303
    assert budget() == {"max_cost_usd": 2.5, "max_tokens": 1000}
    assert viewer.post("/a/one/s/build/edit", **{"field:title": "new"}).status == 303
    assert budget() == {"max_cost_usd": 2.5, "max_tokens": 1000}
    assert save(max_cost_usd="0", max_tokens="") == 303
    assert budget() == {"max_cost_usd": 0}
    assert save(max_cost_usd="-1") == 422
    assert save(max_cost_usd="") == 303
    assert budget() is None


def test_a_wrong_label_is_named_beside_its_field_and_what_was_typed_stays(
    viewer: RealViewer, daemon: RealDaemon
) -> None:
    daemon.wait(daemon.shell("build", "true")["task_id"])
    answer = viewer.post("/a/one/s/build/edit", **{"field:title": "kept", "field:labels": "a=1\nno equals"})
    text = answer.body.decode()
    assert answer.status == 422
    assert "line 2: write KEY=VALUE" in text
    assert "no equals" in text
    assert 'value="kept"' in text


def test_a_session_is_archived_and_brought_back(viewer: RealViewer, daemon: RealDaemon) -> None:
    daemon.wait(daemon.shell("build", "true")["task_id"])
    assert viewer.post("/a/one/s/build/archive").status == 303
    assert daemon.get("/sessions/build")["archived"] is True
    assert viewer.post("/a/one/s/build/unarchive").status == 303
    assert daemon.get("/sessions/build")["archived"] is False


def test_a_session_is_deleted_only_after_a_question_and_with_its_tasks_only_when_asked(
    viewer: RealViewer, daemon: RealDaemon
) -> None:
    task = daemon.shell("build", "sleep 100")
    daemon.state(task["task_id"], "running")
    assert "Also stop its tasks" in viewer.html("/a/one/s/build/delete")
    assert sessions_of(daemon) == ["build"]
    refused = viewer.post("/a/one/s/build/delete")
    assert refused.status == 409
    assert "Cancel its tasks first" in refused.body.decode()
    assert viewer.post("/a/one/s/build/delete", force="true").headers["location"] == "/"
    assert sessions_of(daemon) == []


def test_what_is_not_there_is_a_404_that_says_so(viewer: RealViewer) -> None:
    assert viewer.post("/a/one/s/build/t/jyb1t8293bpgky/cancel").status == 404
    assert viewer.request("GET", "/a/one/s/build/delete", Accept="text/html").status == 404
    assert viewer.post("/a/nobody/s/build/cancel").status == 404


def test_workers_are_scaled_and_one_is_replaced(make_viewer: MakeViewer, make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    viewer = make_viewer({"one": daemon.data_dir}).start().log_in()

    def scale(**bounds: str) -> Answer:
        return viewer.post("/a/one/workers/scale", **{f"field:{name}": value for name, value in bounds.items()})

    assert scale(min="", max="7").headers["location"] == "/workers?agent=one"
    assert daemon.get("/status")["workers"]["max"] == 7
    for bounds, says in (
        ({"min": "", "max": ""}, "Give one of the two"),
        ({"max": "many"}, "must be a whole number"),
        ({"min": "5000"}, 'id="wrong-min"'),
        ({"min": "9", "max": "3"}, "min"),
    ):
        refused = scale(**bounds)
        assert refused.status == 422
        assert says in refused.body.decode()
        assert all(f'value="{text}"' in refused.body.decode() for text in bounds.values())
    assert daemon.get("/status")["workers"]["max"] == 7
    worker = until(lambda: daemon.workers())[0]["worker_id"]
    assert "ends as worker_lost" in viewer.html(f"/a/one/workers/{worker}/restart")
    assert viewer.post(f"/a/one/workers/{worker}/restart").status == 303
    until(lambda: worker not in {each["worker_id"] for each in daemon.workers()} or daemon.workers()[0]["restarts"])


def test_a_cleanup_is_rehearsed_before_it_removes(viewer: RealViewer, daemon: RealDaemon) -> None:
    keep_none = {"tasks": {"max_count": 0}, "output": {}, "sessions": {}}
    answer = daemon.request("POST", "/sessions", {"session_id": "old", "policy": {"retention": keep_none}})
    assert answer.status == 201, answer.body
    task = daemon.wait(daemon.shell("old", "echo hello")["task_id"])
    found = until(lambda: r if (r := viewer.get("/a/one/cleanup")["report"])["tasks"] else None)
    assert found["dry_run"] is True
    assert daemon.task(task["task_id"])["state"] == "completed"
    assert "Removed:" in viewer.post("/a/one/cleanup").body.decode()
    assert daemon.request("GET", f"/tasks/{task['task_id']}").status == 404
    assert "nothing to remove" in viewer.html("/a/one/cleanup")


def test_a_reset_wants_the_name_and_reports_what_it_did(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = daemon.shell("build", "sleep 100")
    daemon.state(task["task_id"], "running")
    assert viewer.get("/a/one/reset")["status"]["state"] == "working"
    slip = viewer.post("/a/one/reset", confirm="two")
    assert slip.status == 422
    assert "Nothing was done" in slip.body.decode()
    assert daemon.task(task["task_id"])["state"] == "running"
    done = viewer.post("/a/one/reset", confirm="one")
    assert done.status == 200
    assert task["task_id"] in done.body.decode()
    assert daemon.wait(task["task_id"])["state"] == "cancelled"


def test_a_form_without_its_token_or_with_anothers_does_nothing(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = daemon.shell("build", "sleep 100")
    path = f"/a/one/s/build/t/{task['task_id']}/cancel"
    form = {"Content_Type": "application/x-www-form-urlencoded", "Accept": "text/html"}
    for body in (b"", b"csrf=", b"csrf=" + b"0" * 64):
        assert viewer.request("POST", path, body, **form).status == 403
    foreign = viewer.request("POST", path, f"csrf={viewer.csrf}".encode(), Origin="https://evil.example", **form)
    assert foreign.status == 403
    assert daemon.task(task["task_id"])["cancel_requested_at"] is None


def test_who_may_only_look_sees_no_forms_and_is_refused(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = daemon.shell("build", "sleep 100")
    daemon.state(task["task_id"], "running")
    link = viewer.command("link", "--role", "viewer").stdout.decode().strip()
    viewer.cookie = viewer.request("POST", urlsplit(link).path, Cookie="").headers["set-cookie"].split(";")[0]
    at = f"/a/one/s/build/t/{task['task_id']}"
    for path in (at, "/a/one/s/build", "/workers", "/agents"):
        assert 'method="post"' not in viewer.html(path), path
    for path in (f"{at}/cancel", "/a/one/s/build/delete", "/a/one/workers/scale", "/a/one/reset", "/new"):
        assert viewer.post(path, max="3", confirm="one", force="true").status == 403, path
    for path in ("/new", "/sessions/new", "/a/one/s/build/edit", "/a/one/reset", "/a/one/cleanup"):
        assert viewer.request("GET", path, Accept="text/html").status == 403, path
    assert daemon.task(task["task_id"])["state"] == "running"


def test_an_agent_that_is_gone_did_nothing_and_one_that_hangs_up_may_have(
    make_viewer: MakeViewer, daemon: RealDaemon, tmp_path: Path
) -> None:
    with InventingAgent() as silent:
        silent.answer = None
        flags = silent.flags(tmp_path, "silent")
        viewer = make_viewer({"gone": daemon.data_dir, "silent": silent.url}, *flags).start().log_in()
        daemon.kill9()
        gone = viewer.post("/a/gone/s/build/t/t1/cancel")
        assert gone.status == 503
        assert "Cancel the task: not done" in gone.body.decode()
        unsure = viewer.post("/a/silent/s/build/t/t1/cancel")
        assert unsure.status == 502
        assert "Cancel the task: unknown whether it was done" in unsure.body.decode()
        assert "Trying again is safe" in unsure.body.decode()
        worker = viewer.post("/a/silent/workers/w1/restart")
        assert "Look first: trying again does it a second time" in worker.body.decode()
