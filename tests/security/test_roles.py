"""Every route against every role: nobody does more than their token allows, and no longer than it is good."""

from __future__ import annotations

import asyncio
import os
import re
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agentd.config import Limits
from agentd.http import sse, tasks
from agentd.http.routes import ROUTES
from agentd.http.routing import Route
from agentd.http.tokens import Role, TokenFile
from tests.http.conftest import Serve
from tests.http.talk import Api

#: A parameter that no route has: refused with 400, after the token and before anything is done.
UNKNOWN = "no_such_parameter=1"
#: What a task may do in its own session; a new route is for no task until somebody decides so here, too.
FOR_TASKS = {
    "status", "get_session", "list_session_tasks", "list_history", "session_events",
    "list_artifacts", "get_artifact", "put_artifact", "delete_artifact",
    "list_tasks", "submit", "submit_shell", "submit_docker", "submit_to_session", "submit_to_session_too",
    "get_task", "wait_for_task", "cancel_task", "delete_task", "retry_task", "report_progress",
    "get_output", "get_output_lines", "search_output", "stream_output", "stream_growth",
    "ask", "withdraw_question", "list_workflow_runs", "get_workflow_run",
}  # fmt: skip
STREAMS = {"session_events", "all_events", "stream_output", "stream_growth"}


def expected_role(route: Route) -> Role | None:
    """What a route takes, by its method and the part of the API: written again, so that a slip in the table shows."""
    if route.path == "/healthz":
        return None
    if route.method == "GET":
        return Role.VIEWER
    return Role.OPERATOR if route.path.split("/")[1] in ("sessions", "tasks", "workflows") else Role.ADMIN


def path_of(route: Route, session_id: str, task_id: str) -> str:
    known = {"session_id": session_id, "task_id": task_id, "worker_id": "w1", "run_id": task_id, "path": "a.txt"}
    return re.sub(r"{(\w+)\*?}", lambda found: known[found[1]], route.path) + "?" + UNKNOWN


def told(answer: object) -> tuple[object, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


async def roles(tmp_path: Path, api: Api) -> dict[Role, str]:
    tokens = TokenFile(tmp_path / "data")
    made = {role: tokens.create(role.name, role.name.lower(), time.time())[1] for role in Role}
    await api.until_status(200, made[Role.ADMIN])
    return made


def test_every_route_has_the_role_that_its_method_and_place_ask_for() -> None:
    assert {route.name: route.role for route in ROUTES} == {route.name: expected_role(route) for route in ROUTES}


def test_what_tasks_may_call_is_decided_by_name() -> None:
    assert {route.name for route in ROUTES if route.for_tasks} == FOR_TASKS


def test_every_stream_of_the_api_is_among_those_tried_here() -> None:
    found = {route.name for route in ROUTES for answer in route.answers.values() if sse.MEDIA_TYPE in told(answer)}
    assert found == STREAMS


async def test_every_route_refuses_every_lower_role_and_takes_every_other(serve: Serve, tmp_path: Path) -> None:
    api = await serve(Limits(auth_failures=1_000_000))
    made = await roles(tmp_path, api)
    await api.ask("POST", "/sessions", {"session_id": "s"})
    task = await api.run("true", session_id="s")
    for route in ROUTES:
        path = path_of(route, "s", task["task_id"])
        methods = [route.method, "HEAD"] if route.method == "GET" else [route.method]
        for method in methods:
            for token in ("", "unknown", f"task-{task['task_id']}-{'0' * 64}"):
                refused = await api.ask(method, path, token=token)
                assert refused.status == (400 if route.role is None else 401), (method, path, token)
            for role, token in made.items():
                for accept in ("application/json", sse.MEDIA_TYPE):
                    answer = await api.ask(method, path, token=token, headers={"Accept": accept})
                    allowed = route.role is None or role >= route.role
                    assert answer.status == (400 if allowed else 403), (method, path, role, answer)


async def test_a_tasks_token_opens_its_own_session_on_the_routes_for_tasks_and_no_other(serve: Serve) -> None:
    api = await serve(Limits(auth_failures=1_000_000))
    await api.ask("POST", "/sessions", {"session_id": "other"})
    foreign = await api.run("true", session_id="other")
    own = await api.start("sleep 60", session_id="own")
    token = api.daemon.service.task_tokens.issue(own["task_id"])
    for route in ROUTES:
        if route.role is None:
            continue
        mine = await api.ask(route.method, path_of(route, "own", own["task_id"]), token=token)
        assert mine.status == (400 if route.for_tasks else 403), (route.name, mine)
        theirs = await api.ask(route.method, path_of(route, "other", foreign["task_id"]), token=token)
        bound = "{" not in route.path  # to no session by its path: what it shows and makes is cut to the own one
        assert theirs.status == (400 if route.for_tasks and bound else 403), (route.name, theirs)
    await api.ask("POST", f"/tasks/{own['task_id']}/cancel")
    await api.get(f"/tasks/{own['task_id']}/wait?timeout_s=60")
    for route in ROUTES:
        if route.role is not None:
            assert (await api.ask(route.method, path_of(route, "own", own["task_id"]), token=token)).status == 401


async def test_a_revoked_token_ends_its_streams_and_waits(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "LOOK_S", 0.2)
    api = await serve()
    token = (await roles(tmp_path, api))[Role.VIEWER]
    task = await api.start("sleep 60", session_id="s")
    task_id = task["task_id"]
    paths = [f"/sessions/s/events?after={task['seq']}", "/events", f"/tasks/{task_id}/stream"]
    paths.append(f"/tasks/{task_id}/output/growth")
    waits = asyncio.create_task(api.ask("GET", f"/tasks/{task_id}/wait?timeout_s=60", token=token))
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(api.stream(path, token=token)) for path in paths]
        kept = await stack.enter_async_context(api.stream("/events"))
        for stream in [*streams, kept]:
            assert (await stream.next()).type == "hello"  # type: ignore[union-attr]
        TokenFile(tmp_path / "data").revoke("VIEWER")
        async with asyncio.timeout(30):
            for stream in streams:
                with pytest.raises(Exception, match="payload"):  # cut off: a stream that ended well would be resumed
                    await stream.rest()
            assert (await waits).status == 401
        await api.run("true", session_id="other")
        assert (await kept.until("task.finished"))[-1].json["session_id"] == "other"


async def test_a_tasks_token_ends_its_streams_with_the_task(serve: Serve) -> None:
    api = await serve()
    task = await api.start("sleep 60", session_id="s", on_interrupt="fail")
    token = api.daemon.service.task_tokens.issue(task["task_id"])
    async with api.stream(f"/sessions/s/events?after={task['seq']}", token=token) as stream:
        assert (await stream.next()).type == "hello"  # type: ignore[union-attr]
        await api.ask("POST", f"/tasks/{task['task_id']}/cancel")
        await api.run("true", session_id="s")
        told = []
        with pytest.raises(Exception, match="payload"):
            async with asyncio.timeout(30):
                while (event := await stream.next()) is not None:
                    told.append(event)
    assert {event.json.get("task_id") for event in told} <= {task["task_id"]}


async def test_a_download_stops_where_its_token_ends(serve: Serve, tmp_path: Path) -> None:
    api = await serve()
    token = (await roles(tmp_path, api))[Role.VIEWER]
    await api.ask("POST", "/sessions", {"session_id": "s"})
    size = 64 << 20
    (tmp_path / "data" / "sessions" / "s" / "artifacts").mkdir(exist_ok=True)
    (tmp_path / "data" / "sessions" / "s" / "artifacts" / "big").touch()
    os.truncate(tmp_path / "data" / "sessions" / "s" / "artifacts" / "big", size)
    async with api._http.get("/sessions/s/artifacts/big", headers={"Authorization": f"Bearer {token}"}) as answer:
        assert int(answer.headers["Content-Length"]) == size
        TokenFile(tmp_path / "data").revoke("VIEWER")
        await api.until_status(401, token)
        with pytest.raises(Exception, match="payload"):
            await answer.read()
