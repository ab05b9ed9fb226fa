"""What a running task is given to read, over HTTP."""

from __future__ import annotations

import base64
from typing import Any

from .talk import Api, until

READS = {"argv": ["cat"], "interactive": True}


async def started(api: Api, **spec: Any) -> str:
    """A task that runs."""
    task_id: str = (await api.ask("POST", "/tasks/shell", spec)).json["task_id"]

    async def runs() -> bool:
        return bool((await api.get(f"/tasks/{task_id}"))["state"] != "queued")

    await until(runs)
    return task_id


async def test_text_and_bytes_are_read_and_nothing_of_them_is_recorded(api: Api) -> None:
    task_id = await started(api, command="wc -c", interactive=True)
    given = await api.ask("POST", f"/tasks/{task_id}/input", {"data": "hidden-ü\n"})
    assert (given.status, given.json["bytes"]) == (200, 10)
    raw = base64.b64encode(b"\0\xff").decode()
    assert (await api.ask("POST", f"/tasks/{task_id}/input", {"data_base64": raw, "eof": True})).status == 200
    task = await api.get(f"/tasks/{task_id}/wait")
    assert task["state"] == "completed"
    output = await api.ask("GET", f"/tasks/{task_id}/output")
    assert output.body.split() == [b"12"]
    history = api.daemon.data_dir / "sessions" / task["session_id"]
    assert all(b"hidden" not in path.read_bytes() for path in history.rglob("*") if path.is_file())


async def test_what_cannot_be_given_is_refused_and_says_why(api: Api) -> None:
    task_id = await started(api, **READS)
    path = f"/tasks/{task_id}/input"
    for body, field in (
        ({}, "data"),
        ({"data": ""}, "data"),
        ({"data": "x", "data_base64": "eA=="}, "data"),
        ({"data_base64": "no base64"}, "data_base64"),
        ({"data": "ü" * 40_000}, "data"),
        ({"data": "x" * 70_000}, "data"),
    ):
        answer = await api.ask("POST", path, body)
        assert (answer.status, list(answer.fields)) == (422, [field]), body
    assert (await api.ask("POST", path, {"eof": True})).status == 200
    late = await api.ask("POST", path, {"data": "x"})
    assert (late.status, late.code in ("conflict", "invalid_transition")) == (409, True)
    await api.get(f"/tasks/{task_id}/wait")
    assert (await api.ask("POST", path, {"data": "x"})).code == "invalid_transition"


async def test_one_that_is_not_interactive_or_does_not_run_takes_nothing(api: Api) -> None:
    task_id = await started(api, command="sleep 600")
    answer = await api.ask("POST", f"/tasks/{task_id}/input", {"data": "x"})
    assert (answer.status, answer.code) == (409, "conflict")
    assert "interactive" in answer.json["detail"]
    later = (await api.ask("POST", "/tasks/shell", {**READS, "not_before": "2999-01-01T00:00:00Z"})).json["task_id"]
    assert (await api.ask("POST", f"/tasks/{later}/input", {"data": "x"})).code == "invalid_transition"
    assert (await api.ask("POST", f"/tasks/{later}/terminal", {"rows": 2, "columns": 2})).code == "invalid_transition"
    assert (await api.ask("POST", f"/tasks/{task_id}/terminal", {"rows": 2, "columns": 2})).code == "conflict"


async def test_one_that_does_not_read_is_given_so_much(api: Api) -> None:
    task_id = await started(api, command="sleep 600", interactive=True)
    answers = [await api.ask("POST", f"/tasks/{task_id}/input", {"data": "x" * 65_536}) for _ in range(20)]
    assert answers[-1].status == 429
    assert answers[-1].code == "input_full"
    assert answers[-1].headers["Retry-After"] == "1"
    assert max(each.json.get("waiting_bytes", 0) for each in answers) <= 1 << 20


async def test_a_terminal_is_resized(api: Api) -> None:
    spec = {"command": "stty size; read x; stty size", "interactive": True, "tty": True}
    task_id = await started(api, **spec, terminal={"rows": 30, "columns": 90})
    assert (await api.ask("POST", f"/tasks/{task_id}/terminal", {"rows": 31, "columns": 91})).status == 200
    assert (await api.ask("POST", f"/tasks/{task_id}/input", {"data": "\n"})).status == 200
    await api.get(f"/tasks/{task_id}/wait")
    assert b"31 91" in (await api.ask("GET", f"/tasks/{task_id}/output")).body


async def test_a_size_needs_a_terminal(api: Api) -> None:
    answer = await api.ask("POST", "/tasks/shell", {"command": "true", "terminal": {"rows": 3, "columns": 3}})
    assert list(answer.fields) == ["spec.terminal"]


async def test_a_terminal_has_no_size_beyond_bounds(api: Api) -> None:
    task_id = await started(api, command="sleep 60", interactive=True, tty=True)
    for size in ({"rows": 0, "columns": 1}, {"rows": 10_001, "columns": 1}, {"rows": 1 << 64, "columns": 1}):
        assert list((await api.ask("POST", f"/tasks/{task_id}/terminal", size)).fields) == ["rows"], size
        spec = {"command": "true", "interactive": True, "tty": True, "terminal": size}
        assert list((await api.ask("POST", "/tasks", {"spec": spec})).fields) == ["spec.terminal.rows"], size
