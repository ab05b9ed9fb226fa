"""What an audit of the contract found broken, held from now on."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from .conftest import MakeDaemon
from .harness import RealDaemon, until


def test_the_tag_of_a_created_task_is_not_that_of_what_it_became(daemon: RealDaemon) -> None:
    daemon.request("POST", "/sessions", {"session_id": "s"})
    made = daemon.request("POST", "/tasks", {"session_id": "s", "spec": {"command": "sleep 3241"}})
    daemon.state(made.json["task_id"], "running")
    again = daemon.request("GET", f"/tasks/{made.json['task_id']}", If_None_Match=made.headers["etag"])
    assert again.status == 200


def test_a_replay_is_the_first_answer_byte_for_byte(daemon: RealDaemon) -> None:
    daemon.request("POST", "/sessions", {"session_id": "s"})
    body = {"session_id": "s", "spec": {"command": "true"}}
    first = daemon.request("POST", "/tasks", body, Idempotency_Key="k")
    daemon.wait(first.json["task_id"])
    assert daemon.request("POST", "/tasks", body, Idempotency_Key="k").body == first.body


@pytest.mark.parametrize("keep", [{"max_count": -1}, {"max_age_s": -1}, {"max_bytes": -1}])
def test_a_negative_limit_is_refused(daemon: RealDaemon, keep: dict[str, Any]) -> None:
    policy = {"policy": {"retention": {"tasks": keep}}}
    assert daemon.request("POST", "/sessions", policy).status == 422
    daemon.request("POST", "/sessions", {"session_id": "s"})
    assert daemon.request("PATCH", "/sessions/s", policy).status == 422


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/tasks", {"spec": {"command": "true"}, "retry": {"mx": 1}}, "retry.mx"),
        ("/tasks", {"spec": {"command": "true"}, "trigger": {"typ": "api"}}, "trigger.typ"),
        ("/sessions", {"policy": {"retention": {"taskz": {}}}}, "policy.retention.taskz"),
        ("/sessions", {"policy": {"retention": {"tasks": {"max_age": 1}}}}, "policy.retention.tasks.max_age"),
    ],
)
def test_an_unknown_field_is_named_at_every_depth(daemon: RealDaemon, path: str, body: Any, field: str) -> None:
    answer = daemon.request("POST", path, body)
    assert answer.status == 422
    assert [each["field"] for each in answer.json["errors"]] == [field]


@pytest.mark.parametrize(
    ("path", "one", "other"),
    [
        ("/tasks", {"session_id": "a", "spec": {"command": "true"}}, {"session_id": "b", "spec": {"command": "true"}}),
        ("/tasks", {"session_id": "a", "spec": {"command": "true"}}, {"spec": {"command": "true"}}),
        ("/sessions", {"session_id": "a"}, {"session_id": "b"}),
    ],
)
def test_a_key_with_another_body_is_a_conflict_whichever_session_it_names(
    daemon: RealDaemon, path: str, one: Any, other: Any
) -> None:
    assert daemon.request("POST", path, one, Idempotency_Key="k").status == 201
    assert daemon.request("POST", path, other, Idempotency_Key="k").status == 409


def test_at_the_limit_of_sessions_those_there_are_go_on(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(limits={"sessions": 1}).start()
    body = {"session_id": "a"}
    assert daemon.request("POST", "/sessions", body, Idempotency_Key="k").status == 201
    assert daemon.request("POST", "/sessions", body, Idempotency_Key="k").headers.get("idempotency-replayed") == "true"
    assert daemon.request("POST", "/tasks", {"session_id": "a", "spec": {"command": "true"}}).status == 201
    assert daemon.request("POST", "/sessions", body).status == 409


@pytest.mark.parametrize("path", ["/sessions", "/tasks", "/sessions/s/tasks", "/sessions/s/history"])
def test_since_is_a_time_and_not_a_text(daemon: RealDaemon, path: str) -> None:
    daemon.wait(daemon.shell("s", "true")["task_id"])
    until(lambda: daemon.get("/sessions/s/history")["data"])
    assert daemon.request("GET", path + "?since=yesterday").status == 400
    an_hour_ago = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 5 * 3600)) + "%2B06:00"
    assert len(daemon.get(f"{path}?since={an_hour_ago}")["data"]) == 1


def test_a_hand_edit_just_after_a_change_over_the_api_is_not_lost(daemon: RealDaemon) -> None:
    daemon.request("POST", "/sessions", {"session_id": "s"})
    path = daemon.data_dir / "sessions/s/metadata.json"
    text = json.loads(until(lambda: path.read_text() if path.exists() else None))
    daemon.request("PATCH", "/sessions/s", {"labels": {"api": "1"}})
    path.write_text(json.dumps({**text, "title": "by hand"}))

    def told() -> bool:
        types = [event["type"] for event in daemon.get("/sessions/s/events")["data"]]
        return types.count("session.updated") > 1 or "session.edit_refused" in types

    until(told)


def test_a_label_key_with_an_equals_sign_is_refused_by_hand_too(daemon: RealDaemon) -> None:
    daemon.request("POST", "/sessions", {"session_id": "s"})
    path = daemon.data_dir / "sessions/s/metadata.json"
    text = json.loads(until(lambda: path.read_text() if path.exists() else None))
    path.write_text(json.dumps({**text, "labels": {"a=b": "c"}}))
    until(lambda: "session.edit_refused" in daemon.request("GET", "/sessions/s/events").body.decode())


def test_workers_are_a_page_like_every_list(daemon: RealDaemon) -> None:
    assert daemon.request("GET", "/workers?limit=1").status == 200
