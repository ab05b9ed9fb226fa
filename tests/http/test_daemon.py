"""What the daemon says of itself, its workers, its queue, and its care."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from .talk import Api


async def test_status_says_what_runs_and_what_waits(api: Api) -> None:
    status = await api.get("/status")
    assert status["state"] == "idle"
    assert status["version"]
    assert status["boot_id"] == api.daemon.service.boot_id
    assert status["disk"]["full"] is False
    task = await api.start("sleep 30", session_id="s")
    await api.ask("POST", "/sessions/s/task", {"spec": {"command": "true"}})
    status = await api.get("/status")
    assert status["state"] == "working"
    assert [each["task_id"] for each in status["current"]] == [task["task_id"]]
    assert status["queue"]["depth"] == 1


async def test_readiness_ends_with_the_drain(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await api.get("/readyz"))["status"] == "ok"
    monkeypatch.setattr(api.daemon.service.runner, "draining", True)
    answer = await api.ask("GET", "/readyz")
    assert (answer.status, answer.code) == (503, "draining")
    assert answer.headers["Retry-After"]
    assert (await api.ask("POST", "/tasks/shell", {"command": "true"})).code == "draining"
    assert (await api.get("/healthz"))["status"] == "ok"


async def test_readiness_ends_with_a_full_disk(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.daemon.service.store.room, "full", True)
    answer = await api.ask("GET", "/readyz")
    assert (answer.status, answer.code) == (507, "storage_full")


async def test_workers_are_listed_replaced_and_scaled(api: Api) -> None:
    task = await api.start("sleep 30")
    workers = (await api.get("/workers"))["data"]
    busy = next(each for each in workers if each["task_id"] == task["task_id"])
    assert busy["state"] == "busy"
    answer = await api.ask("POST", f"/workers/{busy['worker_id']}/restart")
    assert answer.status == 200
    ended = await api.get(f"/tasks/{task['task_id']}/wait?timeout_s=60")
    assert ended["cause"]["code"] == "worker_lost"
    assert (await api.ask("POST", "/workers/scale", {"max": 7})).json["max"] == 7
    assert (await api.ask("POST", "/workers/scale", {})).code == "invalid"
    assert (await api.ask("POST", "/workers/scale", {"max": 0})).fields.keys() == {"max"}


async def test_the_queue_says_why_each_waits(api: Api) -> None:
    await api.start("sleep 30", session_id="s")
    queued = (await api.ask("POST", "/sessions/s/task", {"spec": {"command": "true"}})).json
    queue = await api.get("/queue")
    assert queue["depth"] == 1
    assert queue["data"][0]["task_id"] == queued["task_id"]
    assert queue["data"][0]["reason"]


async def test_the_store_is_cared_for(api: Api) -> None:
    await api.run("true")
    report = (await api.ask("POST", "/admin/cleanup?dry_run=true")).json
    assert report["dry_run"] is True
    assert (await api.ask("POST", "/admin/check")).json["findings"] == []


async def test_a_reset_ends_everything_and_says_so(api: Api) -> None:
    task = await api.start("sleep 30")
    report = (await api.ask("POST", "/admin/reset")).json
    assert report["cancelled"] == [task["task_id"]]
    assert (await api.get(f"/tasks/{task['task_id']}"))["state"] == "cancelled"


async def test_shutdown_begins_the_drain(api: Api) -> None:
    running = asyncio.create_task(api.daemon.run_until_stopped())
    answer = await api.ask("POST", "/shutdown")
    assert (answer.status, answer.json["state"]) == (202, "draining")
    async with asyncio.timeout(60):
        await running
    api.stopped = True


async def test_metrics_count_what_happened(api: Api) -> None:
    await api.run("exit 1")
    await api.ask("GET", "/nope")
    answer = await api.ask("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}

    def value(name: str, **labels: str) -> float:
        family = families[name.removesuffix("_total").removesuffix("_count")]
        return next(s.value for s in family.samples if s.name == name and labels.items() <= s.labels.items())

    assert value("agentd_tasks_finished_total", state="failed", cause="exit_code") == 1
    assert value("agentd_attempts_total") == 1
    assert value("agentd_attempt_seconds_total") > 0
    assert value("agentd_tokens_total", direction="input") == 0
    assert value("agentd_tasks", state="running") == 0
    assert value("agentd_queue_depth") == 0
    assert value("agentd_workers", state="busy") == 0
    assert value("agentd_worker_restarts_total") == 0
    assert value("agentd_journal_commit_seconds_count") >= 2
    assert value("agentd_http_request_seconds_count", route="submit_shell") == 1
    assert value("agentd_http_requests_total", route="", status="404") == 1
    assert value("agentd_events_dropped_total") == 0
    assert value("agentd_sessions") == 1
    assert value("process_resident_memory_bytes") > 0
