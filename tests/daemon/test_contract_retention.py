"""Retention over the API: what it may never take, and whose limits count."""

from __future__ import annotations

from .conftest import MakeDaemon
from .harness import RealDaemon, until

NOTHING = {"max_count": 0}


def finished(daemon: RealDaemon, session_id: str, **headers: str) -> str:
    """A task that ended and has its record."""
    body = {"kind": "shell", "spec": {"command": "echo kept"}, "session_id": session_id}
    task_id: str = daemon.request("POST", "/tasks", body, **headers).json["task_id"]
    daemon.wait(task_id)
    history = daemon.data_dir / "sessions" / session_id / "history"
    until(lambda: list(history.glob(f"*-completed-{task_id}.json")))
    return task_id


def test_live_tasks_pinned_sessions_and_unexpired_keys_are_never_touched(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(retention={"tasks": NOTHING, "output": NOTHING, "sessions": NOTHING}).start()
    daemon.request("POST", "/sessions", {"session_id": "pinned", "policy": {"pinned": True}})
    kept = [finished(daemon, "pinned"), finished(daemon, "keyed", Idempotency_Key="k")]
    live = daemon.shell("live", "sleep 3221")["task_id"]
    daemon.state(live, "running")
    gone = finished(daemon, "gone")
    report = daemon.request("POST", "/admin/cleanup").json
    assert report["sessions"] == ["gone"]
    assert daemon.request("GET", f"/tasks/{gone}").status == 404
    assert [daemon.task(task_id)["state"] for task_id in kept] == ["completed", "completed"]
    assert daemon.task(live)["state"] == "running"
    assert sorted(row["session_id"] for row in daemon.get("/sessions")["data"]) == ["keyed", "live", "pinned"]


def test_an_expired_key_holds_nothing(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(retention={"tasks": NOTHING}, limits={"idempotency_ttl_s": 0}).start()
    task_id = finished(daemon, "s", Idempotency_Key="k")
    assert daemon.request("POST", "/admin/cleanup").json["tasks"] == 1
    assert daemon.request("GET", f"/tasks/{task_id}").status == 404


def test_a_session_with_limits_of_its_own_is_measured_by_them(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(retention={"tasks": NOTHING, "output": NOTHING}).start()
    own = {"tasks": {"max_count": 2}, "output": {"max_count": 1}}
    daemon.request("POST", "/sessions", {"session_id": "own", "policy": {"retention": own}})
    task_ids = [finished(daemon, "own") for _ in range(3)]
    finished(daemon, "other")
    report = daemon.request("POST", "/admin/cleanup").json
    assert (report["tasks"], report["dry_run"]) == (2, False)
    found = [daemon.request("GET", f"/tasks/{task_id}").status for task_id in task_ids]
    assert found == [404, 200, 200]
    outputs = [daemon.request("GET", f"/tasks/{task_id}/output").body for task_id in task_ids[1:]]
    assert outputs == [b"", b"kept\n"]
