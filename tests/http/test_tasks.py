"""Tasks over HTTP."""

from __future__ import annotations

import asyncio

import pytest

from agentd.config import Limits

from .conftest import Serve
from .talk import Api


async def test_a_task_is_submitted_in_each_of_the_ways(api: Api) -> None:
    await api.ask("POST", "/sessions", {"session_id": "s"})
    spec = {"command": "true"}
    for path, body in [
        ("/sessions/s/task", {"kind": "shell", "spec": spec}),
        ("/sessions/s/tasks", {"spec": spec}),
        ("/tasks", {"spec": spec, "session_id": "s"}),
        ("/tasks", {"spec": spec, "session_id": "new"}),
        ("/tasks", {"spec": spec}),
        ("/tasks/shell", {"spec": spec}),
        ("/tasks/shell", {"command": "true", "name": "flat", "env": {"A": "b"}, "limits": {"files": 64}}),
        ("/tasks/shell", {"argv": ["true"]}),
    ]:
        answer = await api.ask("POST", path, body)
        assert answer.status == 201, (path, answer)
        assert answer.headers["Location"] == f"/tasks/{answer.json['task_id']}"
        assert answer.headers["ETag"] == f'"{answer.json["seq"]}"'
        assert (await api.get(answer.headers["Location"] + "/wait?timeout_s=60"))["state"] == "completed"


async def test_the_flat_form_becomes_the_spec(api: Api) -> None:
    task = await api.run("true", tty=False, cwd=".", labels={"a": "b"})
    assert task["spec"] == {"command": "true", "tty": False, "cwd": "."}
    assert task["labels"] == {"a": "b"}
    assert task["trigger"] == {"type": "api", "source": "token"}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/tasks/shell", {}, "command"),
        ("/tasks/shell", {"command": "x", "spec": {"command": "y"}}, "spec"),
        ("/tasks/shell", {"command": "true", "kind": "docker"}, "kind"),
        ("/tasks/shell", {"command": ""}, "spec.command"),
        ("/tasks", {"spec": {"comand": "x"}}, "spec.comand"),
        ("/tasks", {"kind": "nope", "spec": {}}, "kind"),
        ("/tasks", {"spec": {"command": "x"}, "needs": ["nope"]}, "needs"),
        ("/tasks", {"spec": {"command": "x"}, "not_before": "soon"}, "not_before"),
        ("/tasks", {"spec": {"command": "x"}, "queue": "a b"}, "queue"),
        ("/tasks", {"spec": {"command": "x"}, "session_id": "../x"}, "session_id"),
        ("/tasks", {"spec": {"command": "x"}, "name": "x" * 201}, "name"),
    ],
)
async def test_a_bad_task_names_the_field(api: Api, path: str, body: object, field: str) -> None:
    answer = await api.ask("POST", path, body)
    assert (answer.status, answer.code) == (422, "invalid")
    assert field in answer.fields


async def test_a_task_for_a_session_that_is_not_there_is_refused(api: Api) -> None:
    answer = await api.ask("POST", "/sessions/nope/task", {"spec": {"command": "true"}})
    assert (answer.status, answer.code) == (404, "session_not_found")


async def test_a_key_makes_a_submit_safe_to_repeat(serve: Serve) -> None:
    api = await serve()
    body = {"command": "echo once"}
    key = {"Idempotency-Key": "t-1"}
    answers = await asyncio.gather(*(api.ask("POST", "/tasks/shell", body, headers=key) for _ in range(5)))
    assert len({answer.json["task_id"] for answer in answers}) == 1
    assert sum(answer.headers.get("Idempotency-Replayed") == "true" for answer in answers) == 4
    assert len({answer.body for answer in answers}) == 1
    conflict = await api.ask("POST", "/tasks/shell", {"command": "echo twice"}, headers=key)
    assert (conflict.status, conflict.code) == (409, "idempotency_conflict")
    await api.get(f"/tasks/{answers[0].json['task_id']}/wait?timeout_s=60")
    await api.stop()
    api = await serve()
    again = await api.ask("POST", "/tasks/shell", body, headers=key)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.body == answers[0].body


async def test_a_key_is_good_for_one_path(api: Api) -> None:
    for session_id in ("a", "b"):
        await api.ask("POST", "/sessions", {"session_id": session_id})
    key = {"Idempotency-Key": "same"}
    made = [
        await api.ask("POST", f"/sessions/{session_id}/task", {"spec": {"command": "true"}}, headers=key)
        for session_id in ("a", "b", "a")
    ]
    assert made[0].json["task_id"] == made[2].json["task_id"] != made[1].json["task_id"]


async def test_a_wait_answers_at_the_end_and_at_the_timeout(api: Api) -> None:
    task = await api.start("sleep 30")
    assert (await api.get(f"/tasks/{task['task_id']}/wait?timeout_s=0.05"))["state"] == "running"
    waiting = asyncio.create_task(api.get(f"/tasks/{task['task_id']}/wait?timeout_s=300"))
    assert (await api.ask("POST", f"/tasks/{task['task_id']}/cancel")).status == 202
    async with asyncio.timeout(60):  # long before the wait is over
        assert (await waiting)["state"] == "cancelled"
    for timeout in ("301", "-1", "nan", "x"):
        assert (await api.ask("GET", f"/tasks/{task['task_id']}/wait?timeout_s={timeout}")).code == "malformed"


@pytest.mark.parametrize(("method", "suffix"), [("DELETE", ""), ("POST", "/cancel")])
async def test_cancel_says_by_its_status_what_it_met(api: Api, method: str, suffix: str) -> None:
    running = await api.start("sleep 30", session_id="s")
    queued = (await api.ask("POST", "/sessions/s/task", {"spec": {"command": "true"}})).json
    assert (await api.ask(method, f"/tasks/{queued['task_id']}{suffix}")).status == 200
    asked = await api.ask(method, f"/tasks/{running['task_id']}{suffix}")
    assert asked.status == 202
    assert asked.json["cancel_requested_at"]
    await api.get(f"/tasks/{running['task_id']}/wait?timeout_s=60")
    ended = await api.ask(method, f"/tasks/{running['task_id']}{suffix}")
    assert (ended.status, ended.code) == (409, "invalid_transition")
    assert (await api.ask(method, f"/tasks/nope{suffix}")).status == 404


async def test_a_retry_is_a_new_task(api: Api) -> None:
    task = await api.run("exit 3")
    answer = await api.ask("POST", f"/tasks/{task['task_id']}/retry", headers={"Idempotency-Key": "r"})
    assert answer.status == 201
    assert answer.json["retry_of"] == task["task_id"]
    again = await api.ask("POST", f"/tasks/{task['task_id']}/retry", headers={"Idempotency-Key": "r"})
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json["task_id"] == answer.json["task_id"]
    running = await api.start("sleep 30")
    assert (await api.ask("POST", f"/tasks/{running['task_id']}/retry")).code == "invalid_transition"


async def test_progress_is_shown_and_checked(api: Api) -> None:
    task = await api.start("sleep 30")
    path = f"/tasks/{task['task_id']}/progress"
    answer = await api.ask("POST", path, {"progress": 40, "phase": "fetch", "items_processed": 3})
    assert (answer.status, answer.json["progress"], answer.json["phase"]) == (200, 40, "fetch")
    assert (await api.ask("POST", path, {"progress": 101})).fields.keys() == {"progress"}
    assert (await api.ask("POST", path, {})).code == "invalid"
    ended = await api.run("true")
    assert (await api.ask("POST", f"/tasks/{ended['task_id']}/progress", {"progress": 1})).code == "invalid_transition"


async def test_tasks_are_filtered_and_paged_over_all_sessions(api: Api) -> None:
    first = await api.run("exit 1", session_id="a", labels={"k": "v"})
    second = await api.run("true", session_id="b")
    page = await api.get("/tasks?limit=1")
    assert [each["task_id"] for each in page["data"]] == [second["task_id"]]
    page = await api.get(f"/tasks?limit=1&cursor={page['next']}")
    assert [each["task_id"] for each in page["data"]] == [first["task_id"]]
    assert page["next"] is None
    for query in ("state=failed", "cause=exit_code", "label=k%3Dv", f"prefix={first['task_id'][:8]}", "q=exit"):
        assert [each["task_id"] for each in (await api.get(f"/tasks?{query}"))["data"]] == [first["task_id"]], query
    assert len((await api.get("/sessions/b/tasks"))["data"]) == 1


async def test_lists_show_what_a_task_submitted_and_what_awaits_an_answer(api: Api) -> None:
    parent = await api.start("sleep 60", session_id="s")
    token = api.daemon.service.task_tokens.issue(parent["task_id"])
    child = (await api.ask("POST", "/tasks", {"spec": {"command": "true"}}, token=token)).json
    await api.get(f"/tasks/{child['task_id']}/wait?timeout_s=60")
    await api.run("true", session_id="other")
    question = {"ask_id": "q", "prompt": "Deploy?"}
    assert (await api.ask("POST", f"/tasks/{parent['task_id']}/ask", question, token=token)).status == 202

    async def listed(path: str) -> list[str]:
        return [each["task_id"] for each in (await api.get(path))["data"]]

    for tasks in ("/tasks", "/sessions/s/tasks"):
        assert await listed(f"{tasks}?parent={parent['task_id']}") == [child["task_id"]]
        assert await listed(f"{tasks}?parent={child['task_id']}") == []
        assert await listed(f"{tasks}?awaiting=true") == [parent["task_id"]]
        assert parent["task_id"] not in await listed(f"{tasks}?awaiting=false")
        assert len(await listed(f"{tasks}?awaiting=any")) == len(await listed(tasks))
    assert await listed("/tasks?parent=none-such") == []
    assert await listed(f"/sessions/s/history?parent={parent['task_id']}") == [child["task_id"]]
    assert await listed(f"/sessions/s/history?parent={child['task_id']}") == []
    assert await listed("/sessions/s/history?awaiting=true") == []
    assert await listed("/sessions/s/history?awaiting=false") == [child["task_id"]]
    assert (await api.ask("GET", "/tasks?awaiting=perhaps")).fields.keys() == {"awaiting"}


async def test_a_read_of_a_task_is_versioned(api: Api) -> None:
    task = await api.run("true")
    answer = await api.ask("GET", f"/tasks/{task['task_id']}")
    etag = answer.headers["ETag"]
    assert (await api.ask("GET", f"/tasks/{task['task_id']}", headers={"If-None-Match": etag})).status == 304


async def test_head_answers_as_get_without_a_body(api: Api) -> None:
    task = await api.run("echo hello")
    for path in (f"/tasks/{task['task_id']}", "/sessions", f"/tasks/{task['task_id']}/output", "/openapi.json"):
        got, head = await api.ask("GET", path), await api.ask("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["Content-Length"] == got.headers["Content-Length"] == str(len(got.body))


async def test_an_array_of_tasks_is_accepted_at_once(api: Api) -> None:
    await api.ask("POST", "/sessions", {"session_id": "s"})
    batch = [{"spec": {"command": "true"}, "name": f"n{number}"} for number in range(1000)]
    answer = await api.ask("POST", "/sessions/s/tasks", batch)
    assert answer.status == 201
    assert answer.headers["Location"] == "/sessions/s/tasks"
    made = answer.json["data"]
    assert [task["name"] for task in made] == [task["name"] for task in batch]
    assert [task["seq"] for task in made] == list(range(2, 1002))
    assert {task["state"] for task in made} == {"queued"}
    await api.get(f"/tasks/{made[7]['task_id']}")
    await api.ask("POST", "/sessions/s/cancel")


async def test_a_batch_without_a_session_gets_one_and_may_name_it_anywhere(api: Api) -> None:
    alone = (await api.ask("POST", "/tasks", [{"spec": {"command": "true"}}] * 3)).json["data"]
    assert len({task["session_id"] for task in alone}) == 1
    named = [{"spec": {"command": "true"}}, {"spec": {"command": "true"}, "session_id": "together"}]
    for _ in range(2):  # made, and then there
        made = (await api.ask("POST", "/tasks", named)).json["data"]
        assert [task["session_id"] for task in made] == ["together"] * 2


GOOD = {"spec": {"command": "true"}}


@pytest.mark.parametrize(
    ("batch", "fields"),
    [
        ([GOOD, {"spec": {"comand": "x"}}, GOOD], {"[1].spec.comand"}),
        ([GOOD, GOOD, {"kind": "nope", "spec": {}}], {"[2].kind"}),
        ([GOOD, {**GOOD, "priority": 5000}, {**GOOD, "nam": "x"}, 7], {"[1].priority", "[2].nam", "[3]"}),
        ([{**GOOD, "needs": ["nope"]}], {"[0].needs"}),
        ([GOOD, {**GOOD, "not_before": "soon"}], {"[1].not_before"}),
        ([{**GOOD, "labels": {"a": 1}}], {"[0].labels[...]"}),
        ([{**GOOD, "session_id": "s"}, {**GOOD, "session_id": "other"}], {"[1].session_id"}),
        ([], set()),
        ([GOOD] * 1001, set()),
    ],
)
async def test_of_a_batch_with_a_mistake_nothing_is_made_and_its_place_is_named(
    api: Api, batch: list[object], fields: set[str]
) -> None:
    await api.ask("POST", "/sessions", {"session_id": "s"})
    for path in ("/sessions/s/tasks", "/tasks"):
        answer = await api.ask("POST", path, batch)
        assert (answer.status, answer.code) == (422, "invalid"), answer
        assert set(answer.fields) == fields
    assert (await api.get("/sessions/s"))["seq"] == 1
    assert len((await api.get("/sessions"))["data"]) == 1


async def test_only_the_routes_of_many_take_an_array(api: Api) -> None:
    await api.ask("POST", "/sessions", {"session_id": "s"})
    for path in ("/sessions/s/task", "/tasks/shell"):
        assert (await api.ask("POST", path, [GOOD])).code == "invalid"


async def test_the_limit_of_live_tasks_holds_for_a_batch_as_a_whole(serve: Serve) -> None:
    api = await serve(Limits(live_tasks=10, live_tasks_per_session=6))
    await api.ask("POST", "/sessions", {"session_id": "s"})
    held = [{**GOOD, "not_before": "2999-01-01T00:00:00Z"}]
    assert (await api.ask("POST", "/sessions/s/tasks", held * 7)).code == "queue_full"
    assert (await api.ask("POST", "/sessions/s/tasks", held * 6)).status == 201
    assert (await api.ask("POST", "/tasks", held * 5)).code == "queue_full"
    assert (await api.ask("POST", "/tasks", held * 4)).status == 201


async def test_a_key_covers_the_whole_batch(api: Api) -> None:
    for path, headers in (("/tasks", {"Idempotency-Key": "k"}), ("/sessions/s/tasks", {"Idempotency-Key": "k"})):
        await api.ask("POST", "/sessions", {"session_id": "s"})
        first = await api.ask("POST", path, [GOOD] * 20, headers=headers)
        again = await api.ask("POST", path, [GOOD] * 20, headers=headers)
        assert (first.status, again.status) == (201, 201)
        assert again.json == first.json
        assert again.headers["Idempotency-Replayed"] == "true"
        other = await api.ask("POST", path, [GOOD] * 19, headers=headers)
        assert other.code == "idempotency_conflict"
