"""What the daemon announces of itself: a client that comes later is told too."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from .conftest import MakeDaemon
from .harness import RealDaemon, until

Event = dict[str, Any]


def announced(daemon: RealDaemon, last: Callable[[Event], bool]) -> list[Event]:
    """The events on GET /events, from this start's first to the one that is looked for."""
    connection = http.client.HTTPConnection(urlsplit(daemon.agent["url"]).netloc, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/events?after=0", headers={"Authorization": f"Bearer {daemon.token}"})
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")
        events: list[Event] = []
        while line := answer.readline():
            if line.startswith(b"data: "):
                event = json.loads(line.removeprefix(b"data: "))
                events.append(event)
                if last(event):
                    return events
    raise AssertionError(f"the stream ended: {events}")


def of_type(name: str) -> Callable[[Event], bool]:
    return lambda event: event.get("type") == name


def test_a_recovery_is_announced_with_its_counts(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    ends: dict[str, dict[str, str]] = {"s1": {}, "s2": {"on_interrupt": "retry"}, "s3": {}}
    task_ids = {name: daemon.shell(name, "sleep 3201", **more)["task_id"] for name, more in ends.items()}
    for task_id in task_ids.values():
        daemon.state(task_id, "running")
    assert daemon.request("POST", f"/tasks/{task_ids['s3']}/cancel").status in (200, 202)
    daemon.wait(task_ids["s3"])
    daemon.kill9()
    daemon.start()
    hello, *_, recovered = announced(daemon, of_type("agent.recovered"))
    assert hello["boot_id"] == recovered["boot_id"] == daemon.agent["boot_id"]
    counts = {name: recovered[name] for name in ("interrupted", "requeued", "cancelled", "torn", "damaged")}
    assert counts == {"interrupted": 1, "requeued": 1, "cancelled": 0, "torn": 0, "damaged": 0}
    assert (recovered["clean"], recovered["sessions"]) == (False, 3)
    metrics = daemon.request("GET", "/metrics").body.decode()
    assert 'agentd_recovered_tasks_total{outcome="interrupted"} 1.0' in metrics


def test_a_damaged_session_is_announced_with_the_reason(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    for _ in range(2):
        daemon.wait(daemon.shell("bad", "true")["task_id"])
    assert daemon.stop() == 0
    session = daemon.data_dir / "sessions" / "bad"
    (session / "tasks.json").unlink()
    journal = session / "history" / "events-000001.jsonl"
    data = bytearray(journal.read_bytes())
    data[len(data) // 2] ^= 1
    journal.write_bytes(data)
    daemon.start()
    event = announced(daemon, of_type("session.quarantined"))[-1]
    assert (event["session_id"], event["reason"]) == ("bad", daemon.get("/sessions/bad")["reason"])


def test_a_lost_worker_is_announced_and_so_is_the_one_in_its_place(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(workers={"min": 1, "max": 1, "grace_s": 0.2}).start()
    task_id = daemon.shell("s", "sleep 3202")["task_id"]
    daemon.state(task_id, "running")
    (worker,) = daemon.workers()
    os.kill(worker["pid"], signal.SIGKILL)
    task = daemon.wait(task_id)
    assert (task["cause"]["code"], worker["worker_id"]) == ("worker_lost", task["attempts"][0]["worker_id"])
    lost = announced(daemon, of_type("worker.lost"))[-1]
    assert (lost["worker_id"], lost["pid"], lost["task_id"]) == (worker["worker_id"], worker["pid"], task_id)
    follower = announced(daemon, lambda event: event.get("type") == "worker.started" and event["pid"] != worker["pid"])
    assert lost in follower, "first it was lost, then another began"
    replaced = until(lambda: [each for each in daemon.workers() if each["state"] == "idle"])
    assert [each["restarts"] for each in replaced] == [1]


def test_a_degraded_pool_is_seen_in_status_readiness_metrics_and_events(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(workers={"min": 1, "max": 2, "max_restarts": 1, "grace_s": 0.2}).start()

    def degraded() -> bool:
        for worker in daemon.workers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker["pid"], signal.SIGKILL)
        return bool(daemon.get("/status")["state"] == "degraded")

    until(degraded)
    assert daemon.get("/status")["workers"]["degraded"] is True
    answer = daemon.request("GET", "/readyz")
    assert (answer.status, answer.json["code"]) == (503, "unavailable")
    assert "workers.max_restarts" in answer.json["detail"]
    assert "agentd_workers_degraded 1.0" in daemon.request("GET", "/metrics").body.decode()
    assert daemon.request("GET", "/healthz").status == 200
    assert announced(daemon, of_type("worker.degraded"))[-1]["degraded"] is True


def test_the_life_of_a_session_is_announced(daemon: RealDaemon) -> None:
    assert daemon.request("POST", "/sessions", {"session_id": "s"}).status == 201
    assert daemon.request("PATCH", "/sessions/s", {"title": "new"}).status == 200
    assert daemon.request("PATCH", "/sessions/s", {"archived": True}).status == 200
    assert daemon.request("DELETE", "/sessions/s").status == 204
    told = [each["type"] for each in announced(daemon, of_type("session.deleted")) if each.get("session_id") == "s"]
    assert told == ["session.created", "session.updated", "session.archived", "session.deleted"]
