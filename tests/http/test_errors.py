"""What goes wrong is a problem document, whoever noticed it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from agentd.config import Limits
from agentd.errors import by_code
from agentd.http import problems

from .conftest import Serve
from .talk import Api


async def test_an_unknown_path_is_a_404_that_says_where_the_api_is_described(api: Api) -> None:
    answer = await api.ask("GET", "/nope")
    assert (answer.status, answer.code) == (404, "route_not_found")
    assert "openapi.json" in answer.json["detail"]
    assert (await api.ask("POST", "/nope?x=1", b"?")).code == "route_not_found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/tasks", "GET, HEAD, POST"),
        ("GET", "/shutdown", "POST"),
        ("OPTIONS", "/sessions", "GET, HEAD, POST"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
async def test_another_method_is_a_405_that_names_those_allowed(api: Api, method: str, path: str, allowed: str) -> None:
    answer = await api.ask(method, path)
    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == allowed


async def test_a_path_that_is_open_to_all_takes_no_other_method_from_anybody(api: Api) -> None:
    assert (await api.ask("TRACE", "/healthz", token="")).code == "method_not_allowed"
    assert (await api.ask("TRACE", "/status", token="")).code == "unauthorized"


@pytest.mark.parametrize(
    "body",
    [b"{", b"", b"\xff", b'{"spec": {"command": "\xff"}}', b"nonsense", b'{"a": NaN}', b'{"spec":{}} {}'],
)
async def test_a_body_that_is_not_json_is_malformed(api: Api, body: bytes) -> None:
    answer = await api.ask("POST", "/tasks", body)
    assert (answer.status, answer.code) == (400, "malformed")


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
async def test_deep_nesting_is_refused_and_hurts_nobody(api: Api, opening: bytes) -> None:
    for depth in (100, 900, 100_000):
        closing = (b"]" if opening == b"[" else b"}") * depth
        inner = b"[]" if opening == b"[" else b"1"
        body = b'{"spec":{"command":"true","x":' + opening * depth + inner + closing + b"}}"
        answer = await api.ask("POST", "/tasks", body)
        assert (answer.status, answer.code) == (400, "malformed")
        assert "nested" in answer.json["detail"]
    assert (await api.ask("GET", "/healthz")).status == 200


async def test_every_wrong_field_is_named_at_once_with_the_near_name(api: Api) -> None:
    body = {
        "comand": "x",
        "priorty": 1,
        "name": 5,
        "needs": ["a", 1],
        "labels": {"": "x"},
        "retry": {"max": "many", "on": ["never"]},
        "timeout_s": -1,
    }
    answer = await api.ask("POST", "/tasks", body)
    assert (answer.status, answer.code) == (422, "invalid")
    assert answer.fields.keys() == {
        "comand", "priorty", "name", "needs[1]", "labels", "retry.max", "retry.on[0]", "timeout_s", "spec"
    }  # fmt: skip
    assert "did you mean 'priority'" in answer.fields["priorty"]
    assert answer.fields["spec"] == "is required"


async def test_unknown_query_parameters_are_named(api: Api) -> None:
    answer = await api.ask("GET", "/tasks?stat=running&limit=1&foo=1")
    assert (answer.status, answer.code) == (400, "malformed")
    assert answer.fields.keys() == {"stat", "foo"}
    assert "did you mean 'state'" in answer.fields["stat"]
    assert (await api.ask("GET", "/status?x=1")).fields.keys() == {"x"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "limit"),
        ("state=done", "state"),
        ("cursor=nonsense", "cursor"),
        ("sort=size", "sort"),
    ],
)
async def test_a_bad_query_value_is_named(api: Api, query: str, field: str) -> None:
    answer = await api.ask("GET", f"/tasks?{query}")
    assert (answer.status, answer.code) == (400, "malformed")
    assert field in answer.fields


@pytest.mark.parametrize("query", ["q=%ff", "&".join(f"state={n}" for n in range(300))])
async def test_a_query_that_cannot_be_read_is_malformed(api: Api, query: str) -> None:
    assert (await api.ask("GET", f"/tasks?{query}")).code == "malformed"


@pytest.mark.parametrize(
    "given", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"]
)
async def test_only_json_is_read(api: Api, given: str) -> None:
    answer = await api.ask("POST", "/tasks", b'{"spec":{"command":"true"}}', headers={"Content-Type": given})
    assert (answer.status, answer.code) == (415, "unsupported_media_type")


async def test_json_with_a_charset_is_json(api: Api) -> None:
    headers = {"Content-Type": "application/json; charset=UTF-8"}
    assert (await api.ask("POST", "/tasks", b'{"spec":{"command":"true"}}', headers=headers)).status == 201


async def test_a_compressed_body_is_refused(api: Api) -> None:
    answer = await api.ask("POST", "/tasks", b"x", headers={"Content-Encoding": "gzip"})
    assert (answer.status, answer.code) == (415, "unsupported_media_type")


async def test_a_body_over_the_limit_is_a_413_by_its_length_and_as_it_comes(serve: Serve) -> None:
    api = await serve(Limits(body_bytes=1000))
    answer = await api.ask("POST", "/tasks", b'"' + b"x" * 5000)
    assert (answer.status, answer.code) == (413, "too_large")

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100

    answer = await api.ask("POST", "/tasks", chunks(), headers={"Content-Type": "application/json"})
    assert (answer.status, answer.code) == (413, "too_large")
    assert (await api.ask("POST", "/tasks", b'{"spec":{"command":"true"}}'.ljust(1000))).status == 201


async def test_a_body_where_none_is_taken_is_named(api: Api) -> None:
    assert (await api.ask("POST", "/admin/cleanup?dry_run=true", {"dry_run": True})).code == "invalid"
    assert (await api.ask("POST", "/admin/cleanup?dry_run=true", {})).status == 200


HEAD = b"GET /status HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414, "uri_too_long"),
        (HEAD + b"X-Long: " + b"x" * 20_000 + b"\r\n\r\n", 431, "headers_too_large"),
        (HEAD + b"".join(b"X-%d: %s\r\n" % (n, b"x" * 400) for n in range(80)) + b"\r\n", 431, "headers_too_large"),
        (HEAD + b"".join(b"X-%d: y\r\n" % n for n in range(200)) + b"\r\n", 431, "headers_too_large"),
        (b"nonsense\r\n\r\n", 400, "malformed"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "malformed"),
        (b"GET /status HTTP/1.1\r\n\r\n", 400, "malformed"),
    ],
)
async def test_what_is_hardly_http_is_answered_as_a_problem_too(
    api: Api, request_bytes: bytes, status: int, code: str
) -> None:
    answer = await api.raw(request_bytes)
    assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"CONNECT example.com:443 HTTP/1.1", 404),
        (b"OPTIONS * HTTP/1.1", 404),
        (b"GET http://localhost/status HTTP/1.1", 200),
        (b"GET //status HTTP/1.1", 404),
        (b"GET /status/ HTTP/1.1", 404),
        (b"GET /./status HTTP/1.1", 404),
        (b"BREW /status HTTP/1.1", 400),
        (b"TRACE /status HTTP/1.1", 405),
        (b"GET /status HTTP/1.0", 200),
    ],
)
async def test_a_request_line_of_another_form_is_answered(api: Api, line: bytes, status: int) -> None:
    answer = await api.raw(line + b"\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n" % api.token.encode())
    assert answer.status == status


@pytest.mark.parametrize("token", [True, False])
async def test_a_client_that_waits_to_send_its_body_is_asked_for_it_when_it_may(api: Api, token: bool) -> None:
    place = urlsplit(api.daemon.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    body = b'{"spec":{"command":"true"}}'
    writer.write(
        b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nExpect: 100-continue\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % (api.token.encode() if token else b"wrong", len(body))
    )
    async with asyncio.timeout(60):
        first = await reader.readline()
        if token:
            assert first == b"HTTP/1.1 100 Continue\r\n"
            assert await reader.readline() == b"\r\n"
            writer.write(body)
            assert b" 201 " in await reader.readline()
        else:
            assert b" 401 " in first
    writer.close()
    await writer.wait_closed()


async def test_an_expectation_that_is_not_known_is_refused(api: Api) -> None:
    answer = await api.ask("POST", "/tasks", {"spec": {"command": "true"}}, headers={"Expect": "wonders"})
    assert answer.code == "malformed"


async def test_an_error_of_ours_is_a_500_that_tells_nothing_but_where_to_look(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        raise RuntimeError("a secret")

    monkeypatch.setattr(api.daemon.service, "status", broken)
    answer = await api.ask("GET", "/status")
    assert (answer.status, answer.code) == (500, "internal")
    assert "secret" not in answer.body.decode()
    assert answer.json["request_id"] in answer.json["detail"]


async def test_an_answer_that_has_begun_is_cut_off_and_never_becomes_another(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await api.run("head -c 2000000 /dev/zero")

    async def fails(*ignored: Any) -> Any:
        raise RuntimeError("the disk is gone")

    real = api.daemon.service.in_thread
    calls = 0

    async def in_thread(work: Any, *given: Any) -> Any:
        nonlocal calls
        calls += work is next
        return await (fails() if calls == 3 else real(work, *given))

    monkeypatch.setattr(api.daemon.service, "in_thread", in_thread)
    with pytest.raises(aiohttp.ClientError):
        await api.ask("GET", f"/tasks/{task['task_id']}/output")
    assert (await api.ask("GET", "/healthz")).status == 200


async def test_ids_that_lead_nowhere_are_not_found(api: Api) -> None:
    for path in (
        "/sessions/nope",
        "/sessions/..%2f..%2fetc",
        "/sessions/%00",
        "/sessions/a%0ab",
        "/sessions/" + "x" * 200,
    ):
        answer = await api.ask("GET", path)
        assert (answer.status, answer.code) == (404, "session_not_found"), path
    for path in ("/tasks/nope", "/tasks/00000000000000", "/tasks/..%2fx"):
        assert (await api.ask("GET", path)).code == "task_not_found", path
    assert (await api.ask("POST", "/workers/nope/restart")).code == "worker_not_found"
    assert (await api.ask("GET", "/sessions/%ff")).code == "malformed"


async def test_a_request_id_is_kept_when_it_is_sane_and_made_when_not(api: Api) -> None:
    kept = await api.ask("GET", "/healthz", headers={"X-Request-Id": "mine-1.2_3"})
    assert kept.headers["X-Request-Id"] == "mine-1.2_3"
    made = {(await api.ask("GET", "/nope", headers={"X-Request-Id": "a b"})).json["request_id"] for _ in range(3)}
    assert len(made) == 3
    assert "a b" not in made


async def test_two_requests_at_once_each_get_their_own(api: Api) -> None:
    answers = await asyncio.gather(
        *(api.ask("GET", f"/sessions/none-{n}", headers={"X-Request-Id": str(n)}) for n in range(20))
    )
    assert [f"none-{n}" in a.json["detail"] and a.headers["X-Request-Id"] == str(n) for n, a in enumerate(answers)]


async def test_answers_are_not_stored_or_sniffed(api: Api) -> None:
    for path in ("/status", "/nope", "/tasks"):
        headers = (await api.ask("GET", path)).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in headers


def test_every_error_that_can_be_sent_has_a_status() -> None:
    never_sent = {"already_running", "config_invalid", "format_too_new", "unreachable", "slow_reader", "bus_closed"}
    assert by_code().keys() - never_sent == problems.STATUS.keys()
