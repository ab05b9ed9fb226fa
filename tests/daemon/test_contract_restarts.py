"""What a start finds as it was, however the daemon ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import MakeDaemon
from .harness import RealDaemon, until

FAR = "2099-01-01T00:00:00.000000Z"


def kill(daemon: RealDaemon) -> None:
    daemon.kill9()


def stop(daemon: RealDaemon) -> None:
    assert daemon.stop() == 0


@pytest.mark.parametrize("end", [kill, stop])
def test_what_waits_for_its_time_its_needs_or_its_next_attempt_goes_on_waiting(
    make_daemon: MakeDaemon, end: Callable[[RealDaemon], None]
) -> None:
    daemon = make_daemon(drain_s=0).start()
    later = daemon.shell("s", "true", not_before=FAR)["task_id"]
    after = daemon.shell("s", "true", needs=[later])["task_id"]
    again = daemon.shell("s", "exit 1", retry={"max": 3, "backoff_s": 1000, "jitter": 0})["task_id"]
    until(lambda: daemon.task(again)["next_attempt_at"])
    before = [daemon.task(task_id) for task_id in (later, after, again)]
    assert [task["state"] for task in before] == ["waiting", "waiting", "queued"]
    end(daemon)
    daemon.start()
    assert [daemon.task(task_id) for task_id in (later, after, again)] == before
    reasons = {row["task_id"]: row["reason"] for row in daemon.get("/queue")["data"]}
    assert FAR in reasons[later]
    assert later in reasons[after]
    assert before[2]["next_attempt_at"] in reasons[again]


@pytest.mark.parametrize("end", [kill, stop])
def test_keys_of_sessions_and_retries_give_the_first_answer_after_a_restart(
    make_daemon: MakeDaemon, end: Callable[[RealDaemon], None]
) -> None:
    daemon = make_daemon().start()
    failed = daemon.wait(daemon.shell("s", "exit 1")["task_id"])["task_id"]
    calls = (("/sessions", {"title": "once"}, "one"), (f"/tasks/{failed}/retry", None, "two"))
    first = [daemon.request("POST", path, body, Idempotency_Key=key) for path, body, key in calls]
    daemon.wait(first[1].json["task_id"])
    end(daemon)
    daemon.start()
    repeated = [daemon.request("POST", path, body, Idempotency_Key=key) for path, body, key in calls]
    for one, other in zip(first, repeated, strict=True):
        assert (one.status, other.status) == (201, 201)
        assert "idempotency-replayed" not in one.headers
        assert other.headers["idempotency-replayed"] == "true"
        assert other.headers["location"] == one.headers["location"]
    assert repeated[0].body == first[0].body
    assert daemon.request("POST", "/sessions", {"title": "other"}, Idempotency_Key="one").status == 409
    assert len(daemon.get("/sessions/s")["tasks"]) == 2
    assert len(daemon.get("/sessions")["data"]) == 2
