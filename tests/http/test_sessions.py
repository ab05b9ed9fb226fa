"""Sessions over HTTP."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from .conftest import Serve
from .talk import Api


async def test_a_session_is_created_with_its_place_and_version(api: Api) -> None:
    answer = await api.ask("POST", "/sessions", {"session_id": "one", "title": "One", "labels": {"team": "a"}})
    assert answer.status == 201
    assert answer.headers["Location"] == "/sessions/one"
    assert answer.headers["ETag"] == '"1"'
    assert answer.json["title"] == "One"
    again = await api.ask("POST", "/sessions", {"session_id": "one"})
    assert (again.status, again.code) == (409, "session_exists")


@pytest.mark.parametrize("session_id", ["", ".hidden", "a/b", "a b", "x" * 129, "é"])
async def test_a_bad_session_id_is_named(api: Api, session_id: str) -> None:
    answer = await api.ask("POST", "/sessions", {"session_id": session_id})
    assert (answer.status, answer.code) == (422, "invalid")
    assert "session_id" in answer.fields


async def test_the_same_key_and_body_give_the_first_answer_again(serve: Serve) -> None:
    api = await serve()
    key = {"Idempotency-Key": "k-1"}
    first = await api.ask("POST", "/sessions", {"title": "x"}, headers=key)
    again = await api.ask("POST", "/sessions", {"title": "x"}, headers=key)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (again.status, again.json) == (201, first.json)
    other = await api.ask("POST", "/sessions", {"title": "y"}, headers=key)
    assert (other.status, other.code) == (409, "idempotency_conflict")

    await api.stop()
    api = await serve()
    after = await api.ask("POST", "/sessions", {"title": "x"}, headers=key)
    assert after.headers["Idempotency-Replayed"] == "true"
    assert after.json == first.json


@pytest.mark.parametrize("key", ["", "x" * 256, "\u00e9"])
async def test_a_bad_key_is_refused(api: Api, key: str) -> None:
    if not key:
        answer = await api.raw(
            b"POST /sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nIdempotency-Key:\r\n"
            b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}" % api.token.encode()
        )
    else:
        answer = await api.ask("POST", "/sessions", {}, headers={"Idempotency-Key": key})
    assert (answer.status, answer.code) == (400, "malformed")


async def test_a_page_leads_to_the_next_until_there_is_none(api: Api) -> None:
    for n in range(5):
        await api.ask("POST", "/sessions", {"session_id": f"s{n}"})
    seen, path = [], "/sessions?limit=2&sort=session_id"
    cursor = ""
    while True:
        page = await api.get(path + cursor)
        seen += [each["session_id"] for each in page["data"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == [f"s{n}" for n in range(5)]


async def test_a_cursor_is_of_one_list_in_one_order(api: Api) -> None:
    for session_id in ("a", "b"):
        for _ in range(2):
            await api.run("true", session_id=session_id)
            await api.ask("PUT", f"/sessions/{session_id}/artifacts/{secrets.token_hex(4)}", b"x")
    lists = (
        "/sessions?limit=1",
        "/sessions?limit=1&sort=session_id",
        "/tasks?limit=1",
        "/tasks?limit=1&sort=created_at",
        "/sessions/a/tasks?limit=1",
        "/sessions/b/tasks?limit=1",
        "/sessions/a/history?limit=1",
        "/sessions/b/history?limit=1",
        "/sessions/a/artifacts?limit=1",
        "/sessions/b/artifacts?limit=1",
    )
    cursors = {path: (await api.get(path))["next"] for path in lists}
    for path in (*lists, "/workers?limit=1", "/queue?limit=1"):
        for origin, cursor in cursors.items():
            answer = await api.ask("GET", f"{path}&cursor={cursor}")
            assert answer.status == (200 if origin == path else 400), (path, origin)
            if origin != path:
                assert answer.fields == {"cursor": "is of another list or order; start again without it"}


async def test_filters_choose(api: Api) -> None:
    await api.ask("POST", "/sessions", {"session_id": "a", "labels": {"env": "prod"}})
    await api.ask("POST", "/sessions", {"session_id": "b", "title": "Some Title"})
    await api.ask("PATCH", "/sessions/b", {"archived": True})

    async def ids(query: str) -> list[str]:
        return [each["session_id"] for each in (await api.get(f"/sessions?{query}"))["data"]]

    assert await ids("label=env%3Dprod") == ["a"]
    assert await ids("") == ["a"]
    assert await ids("archived=true") == ["b"]
    assert sorted(await ids("archived=any")) == ["a", "b"]
    assert await ids("archived=any&q=some+t") == ["b"]
    assert await ids("state=working&state=queued") == []


async def test_an_etag_saves_the_body_and_guards_a_write(api: Api) -> None:
    await api.ask("POST", "/sessions", {"session_id": "one"})
    first = await api.ask("GET", "/sessions/one")
    etag = first.headers["ETag"]
    same = await api.ask("GET", "/sessions/one", headers={"If-None-Match": f'"x", W/{etag}'})
    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", etag)

    edited = await api.ask("PATCH", "/sessions/one", {"title": "new"}, headers={"If-Match": etag})
    assert (edited.status, edited.json["title"]) == (200, "new")
    assert (await api.ask("GET", "/sessions/one", headers={"If-None-Match": etag})).status == 200
    stale = await api.ask("PATCH", "/sessions/one", {"title": "x"}, headers={"If-Match": etag})
    assert (stale.status, stale.code) == (412, "precondition_failed")
    now = edited.headers["ETag"]
    for tags, status in (
        (f"W/{now}", 412),
        (f'"{"9" * 5000}"', 412),
        (f'"x", {etag}', 412),
        (f'"x" , W/"1",{now}', 200),
    ):
        answer = await api.ask("PATCH", "/sessions/one", {"title": "new"}, headers={"If-Match": tags})
        assert answer.status == status, tags
    assert (await api.ask("DELETE", "/sessions/one", headers={"If-Match": "nonsense"})).code == "precondition_failed"
    assert (await api.ask("PATCH", "/sessions/one", {"title": None}, headers={"If-Match": "*"})).json["title"] is None


async def test_a_list_has_an_etag_of_its_content(api: Api) -> None:
    etag = (await api.ask("GET", "/sessions")).headers["ETag"]
    assert (await api.ask("GET", "/sessions", headers={"If-None-Match": etag})).status == 304
    await api.ask("POST", "/sessions", {})
    assert (await api.ask("GET", "/sessions", headers={"If-None-Match": etag})).status == 200


async def test_an_active_session_is_deleted_by_force_only(api: Api) -> None:
    await api.start("sleep 30", session_id="busy")
    answer = await api.ask("DELETE", "/sessions/busy")
    assert (answer.status, answer.code) == (409, "session_active")
    gone = await api.ask("DELETE", "/sessions/busy?force=true")
    assert (gone.status, gone.body) == (204, b"")
    assert (await api.ask("GET", "/sessions/busy")).status == 404


async def test_cancelling_a_session_stops_all_of_it(api: Api) -> None:
    await api.start("sleep 30", session_id="busy")
    await api.ask("POST", "/sessions/busy/task", {"spec": {"command": "true"}})
    answer = await api.ask("POST", "/sessions/busy/cancel")
    assert answer.status == 202
    assert len(answer.json["data"]) == 2
    for task in answer.json["data"]:
        ended = await api.get(f"/tasks/{task['task_id']}/wait?timeout_s=60")
        assert ended["state"] == "cancelled"
    assert (await api.ask("POST", "/sessions/busy/cancel")).status == 200


async def test_history_has_the_finished_tasks_as_their_records_are(api: Api) -> None:
    ids = [(await api.run(f"exit {n}", session_id="h"))["task_id"] for n in range(3)]
    page = await api.get("/sessions/h/history?limit=2")
    assert [each["task_id"] for each in page["data"]] == ids[:0:-1]
    rest = await api.get(f"/sessions/h/history?limit=2&cursor={page['next']}")
    assert [each["task_id"] for each in rest["data"]] == ids[:1]
    failed = await api.get("/sessions/h/history?state=failed&sort=created_at")
    assert [each["task_id"] for each in failed["data"]] == ids[1:]
    assert (await api.ask("GET", "/sessions/nope/history")).code == "session_not_found"


async def test_one_key_used_by_two_at_once_makes_one_session(api: Api) -> None:
    key = {"Idempotency-Key": "both"}
    answers = await asyncio.gather(*(api.ask("POST", "/sessions", {"title": "x"}, headers=key) for _ in range(5)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.json["session_id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
