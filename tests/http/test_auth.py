"""Tokens, roles, and what keeps web pages out."""

from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path

import aiohttp
import pytest

from agentd.config import Http, Limits
from agentd.errors import Conflict, Invalid, NotFound, StorageFailed
from agentd.http.auth import MAX_ADDRESSES, Failures
from agentd.http.routes import ROUTES
from agentd.http.tokens import MAX_TOKENS, Role, TokenFile, first_token

from .conftest import Serve
from .talk import Api


class StoppedClock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


async def test_only_healthz_is_open(api: Api) -> None:
    assert (await api.ask("GET", "/healthz", token="")).status == 200
    for path in ("/readyz", "/status", "/metrics", "/openapi.json", "/sessions", "/nope"):
        answer = await api.ask("GET", path, token="")
        assert (answer.status, answer.code) == (401, "unauthorized"), path
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header",
    [
        "Bearer wrong",
        "Bearer ",
        "Basic dG9rZW46",
        "Bearer \u00e9\u00e9",
        "bearer",
        "Token abc",
        "Bearer task-0123456789abcd-\u00e9",
    ],
)
async def test_a_token_that_is_not_known_is_refused(api: Api, header: str) -> None:
    assert (await api.ask("GET", "/status", headers={"Authorization": header})).code == "unauthorized"


async def test_the_scheme_is_read_in_any_case(api: Api) -> None:
    assert (await api.ask("GET", "/status", headers={"Authorization": f"bearer {api.token}"})).status == 200


async def test_a_token_in_the_url_opens_nothing(api: Api) -> None:
    assert (await api.ask("GET", f"/status?token={api.token}", token="")).code == "unauthorized"


async def test_each_route_takes_its_role_and_no_less(api: Api, tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "data")
    made = {role: tokens.create(role.name, role.name.lower(), time.time())[1] for role in Role}
    await api.until_status(200, made[Role.VIEWER])
    for route in ROUTES:
        if route.role is None or route.name in ("shutdown", "reset", "cleanup", "check", "all_events"):
            continue
        path = re.sub(r"{.*?}", "nope", route.path)
        for role, token in made.items():
            body = {"unknown_field": 1} if route.body is not None else None
            answer = await api.ask(route.method, path, body, token=token)
            assert (answer.status == 403) is (role < route.role), (route.name, role, answer)
    for path in ("/shutdown", "/admin/reset", "/admin/cleanup", "/admin/check"):
        assert (await api.ask("POST", path, token=made[Role.OPERATOR])).code == "forbidden"


async def test_every_answer_to_a_known_token_says_its_role(api: Api, tmp_path: Path) -> None:
    _, viewer = TokenFile(tmp_path / "data").create("eye", "viewer", time.time())
    await api.until_status(200, viewer)
    asked = [("GET", "/status", 200), ("GET", "/nope", 404), ("GET", "/tasks/nope", 404), ("PUT", "/status", 405)]
    for method, path, status in [*asked, ("POST", "/shutdown", 403), ("GET", "/sessions?x=1", 400)]:
        answer = await api.ask(method, path, token=viewer)
        assert (answer.status, answer.headers["Agentd-Role"]) == (status, "viewer")
    known = await api.ask("GET", "/openapi.json")
    again = await api.ask("GET", "/openapi.json", headers={"If-None-Match": known.headers["ETag"]})
    assert (again.status, again.headers["Agentd-Role"]) == (304, "admin")
    async with api.stream("/events", token=viewer) as stream:
        assert stream.answer.headers["Agentd-Role"] == "viewer"


async def test_an_answer_without_a_known_token_says_no_role(api: Api) -> None:
    for path, token in (("/healthz", api.token), ("/status", "wrong"), ("/status", "")):
        assert "Agentd-Role" not in (await api.ask("GET", path, token=token)).headers


async def test_a_tasks_own_token_says_so_while_the_task_runs(api: Api) -> None:
    task = await api.start("sleep 30")
    token = api.daemon.service.task_tokens.issue(task["task_id"])
    assert (await api.ask("GET", "/status", token=token)).headers["Agentd-Role"] == "task"
    assert (await api.ask("POST", "/shutdown", token=token)).headers["Agentd-Role"] == "task"
    await api.ask("DELETE", f"/tasks/{task['task_id']}")
    await api.get(f"/tasks/{task['task_id']}/wait")
    ended = await api.ask("GET", "/status", token=token)
    assert ended.status == 401
    assert "Agentd-Role" not in ended.headers


async def test_a_token_is_known_from_the_moment_it_is_made(api: Api, tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "data")
    for number in range(5):
        assert (await api.ask("GET", "/status", token="not-known-" * 5)).status == 401  # it has just looked
        _, text = tokens.create(f"ci-{number}", "viewer", time.time())
        assert (await api.ask("GET", "/status", token=text)).status == 200


async def test_a_revoked_token_opens_nothing(api: Api, tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "data")
    _, text = tokens.create("ci", "viewer", time.time())
    await api.until_status(200, text)
    assert (await api.ask("GET", "/status", token=text)).status == 200
    tokens.revoke("ci")
    await api.until_status(401, text)
    assert (await api.ask("GET", "/status")).status == 200


async def test_a_token_file_that_is_damaged_shuts_out_all_but_the_first(api: Api, tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "data")
    _, text = tokens.create("ci", "viewer", time.time())
    await api.until_status(200, text)
    (tmp_path / "data" / "tokens.json").write_text("{")
    await api.until_status(401, text)
    assert (await api.ask("GET", "/status")).status == 200


async def test_failures_are_limited_and_never_lock_the_owner_out(serve: Serve) -> None:
    api = await serve(Limits(auth_failures=3))
    statuses = [(await api.ask("GET", "/status", token="wrong")).status for _ in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
    answer = await api.ask("GET", "/status", token="wrong")
    assert answer.code == "rate_limited"
    assert int(answer.headers["Retry-After"]) > 0
    assert (await api.ask("GET", "/status")).status == 200


def test_failures_are_forgotten_after_a_minute_and_bounded_in_number() -> None:
    clock = StoppedClock()
    failures = Failures(2, clock)
    assert [failures.count("a") for _ in range(3)] == [False, False, True]
    clock.now += 61
    assert not failures.count("a")
    for n in range(3 * MAX_ADDRESSES):
        failures.count(str(n))
    assert len(failures._by_address) == MAX_ADDRESSES


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:80", "", "10.0.0.1"])
async def test_a_host_that_is_not_ours_is_refused(api: Api, host: str) -> None:
    answer = await api.raw(b"GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n" % host.encode())
    assert answer.status in (400, 403)
    assert answer.code in ("forbidden", "malformed")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8420", "127.0.0.1", "[::1]:8420"])
async def test_loopback_has_many_names(api: Api, host: str) -> None:
    assert (await api.raw(b"GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n" % host.encode())).status == 200


async def test_more_hosts_can_be_named(serve: Serve) -> None:
    api = await serve(http=Http(port=0, allowed_hosts=("agents.example",)))
    assert (await api.raw(b"GET /healthz HTTP/1.1\r\nHost: Agents.Example:443\r\n\r\n")).status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "file://"])
async def test_another_origin_is_refused_even_with_the_token(api: Api, origin: str) -> None:
    answer = await api.ask("POST", "/sessions", {}, headers={"Origin": origin})
    assert (answer.status, answer.code) == (403, "forbidden")


async def test_the_daemons_own_origin_passes(api: Api) -> None:
    assert (await api.ask("GET", "/status", headers={"Origin": api.daemon.url})).status == 200


async def test_a_cross_site_fetch_is_refused(api: Api) -> None:
    assert (await api.ask("GET", "/status", headers={"Sec-Fetch-Site": "cross-site"})).code == "forbidden"
    assert (await api.ask("GET", "/status", headers={"Sec-Fetch-Site": "same-origin"})).status == 200


async def test_the_unix_socket_asks_for_the_token_too(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "s"
    api = await serve(http=Http(port=0, socket=str(path)))
    assert os.stat(path).st_mode & 0o077 == 0
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as client:
        async with client.get("http://localhost/status") as answer:
            assert answer.status == 401
        headers = {"Authorization": f"Bearer {api.token}"}
        async with client.get("http://localhost/status", headers=headers) as answer:
            assert answer.status == 200
        async with client.get("http://evil.example/status", headers=headers) as answer:
            assert answer.status == 403


async def test_a_tasks_own_token_reaches_its_session_while_it_runs_and_nothing_else(api: Api) -> None:
    other = (await api.run("true", session_id="other"))["task_id"]
    task = await api.start("sleep 30", session_id="mine")
    token = api.daemon.service.task_tokens.issue(task["task_id"])

    async def status(method: str, path: str, body: object = None) -> int:
        return (await api.ask(method, path, body, token=token)).status

    assert await status("POST", f"/tasks/{task['task_id']}/progress", {"progress": 40}) == 200
    assert await status("GET", "/sessions/mine") == 200
    assert await status("PUT", "/sessions/mine/artifacts/a.txt", b"x") == 201
    assert await status("POST", "/sessions/mine/task", {"spec": {"command": "true"}}) == 201
    assert await status("POST", "/tasks", {"spec": {"command": "true"}}) == 201
    assert await status("POST", "/tasks", {"spec": {"command": "true"}, "session_id": "mine"}) == 201
    assert {each["session_id"] for each in (await api.ask("GET", "/tasks", token=token)).json["data"]} == {"mine"}
    running = await api.start("sleep 30", session_id="other")
    shown = (await api.ask("GET", "/status", token=token)).json["current"]
    assert {each["session_id"] for each in shown} == {"mine"}  # what it submitted may run, too
    await api.ask("DELETE", f"/tasks/{running['task_id']}")

    assert await status("GET", "/sessions/other") == 403
    assert await status("GET", f"/tasks/{other}") == 403
    assert await status("GET", f"/tasks/{other}/output") == 403
    assert await status("POST", "/tasks", {"spec": {"command": "true"}, "session_id": "other"}) == 403
    assert await status("POST", "/tasks/shell", {"command": "true", "session_id": "new"}) == 403
    assert await status("PATCH", "/sessions/mine", {"title": "x"}) == 403
    assert await status("DELETE", "/sessions/mine") == 403
    assert await status("GET", "/sessions") == 403
    assert await status("GET", "/events") == 403
    assert await status("POST", "/shutdown") == 403

    await api.ask("POST", f"/tasks/{task['task_id']}/cancel")
    await api.get(f"/tasks/{task['task_id']}/wait?timeout_s=60")
    assert await status("GET", "/sessions/mine") == 401


def test_the_first_token_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    text = first_token(tmp_path)
    assert first_token(tmp_path) == text
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["token"]
    (tmp_path / "token").chmod(0o644)
    with pytest.raises(StorageFailed, match="chmod 600"):
        first_token(tmp_path)
    (tmp_path / "token").chmod(0o600)
    (tmp_path / "token").write_text("short\n")
    with pytest.raises(StorageFailed, match="32 characters"):
        first_token(tmp_path)


def test_a_token_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("x" * 64)
    (tmp_path / "token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageFailed):
        first_token(tmp_path)


def test_tokens_are_kept_as_hashes_in_a_file_of_their_owner(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path)
    assert tokens.all() == ()
    kept, text = tokens.create("ci", "Operator", 1_700_000_000.0)
    assert tokens.all() == (kept,)
    assert kept.role == "operator"
    assert kept.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert text not in (tmp_path / "tokens.json").read_text()
    assert (tmp_path / "tokens.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(Conflict):
        tokens.create("ci", "viewer", 0.0)
    with pytest.raises(Invalid, match="viewer, operator, admin"):
        tokens.create("x", "root", 0.0)
    with pytest.raises(Invalid):
        tokens.create("a\nb", "viewer", 0.0)
    assert tokens.revoke(kept.token_id) == kept
    with pytest.raises(NotFound):
        tokens.revoke("ci")
    assert sorted(os.listdir(tmp_path)) == ["token", "tokens.json"]


def test_the_number_of_tokens_is_bounded(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path)
    for n in range(MAX_TOKENS):
        tokens.create(str(n), "viewer", 0.0)
    with pytest.raises(Conflict, match="revoke"):
        tokens.create("one more", "viewer", 0.0)


def test_a_token_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path)
    tokens.create("ci", "viewer", 0.0)
    (tmp_path / "tokens.json").chmod(0o640)
    with pytest.raises(StorageFailed, match="chmod 600"):
        tokens.all()


def test_what_is_no_token_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").mkdir(0o700)
    with pytest.raises(StorageFailed, match="must be a file"):
        TokenFile(tmp_path).all()
