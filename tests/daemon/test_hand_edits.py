"""metadata.json edited by hand while the daemon runs, or while none does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .conftest import MakeDaemon
from .harness import RealDaemon, until


def metadata(daemon: RealDaemon, session_id: str) -> Path:
    return daemon.data_dir / "sessions" / session_id / "metadata.json"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}, indent=2))


def test_a_valid_edit_is_shown_soon(daemon: RealDaemon) -> None:
    daemon.request("POST", "/sessions", {"session_id": "s"})
    path = until(lambda: p if (p := metadata(daemon, "s")).exists() else None)
    edit(path, title="by hand", labels={"team": "a"}, policy={"max_parallel": 7})
    until(lambda: daemon.get("/sessions/s")["title"] == "by hand")
    session = daemon.get("/sessions/s")
    assert (session["labels"], session["policy"]["max_parallel"]) == ({"team": "a"}, 7)
    (event,) = [e for e in daemon.get("/sessions/s/events")["data"] if e["type"] == "session.updated"]
    assert event["source"] == "file"


def test_an_invalid_edit_is_refused_and_kept_and_the_file_is_put_back(daemon: RealDaemon) -> None:
    daemon.request("POST", "/sessions", {"session_id": "s", "title": "right"})
    path = metadata(daemon, "s")
    text = '{"session_id": "other", "titel": 3'
    path.write_text(text)
    event = until(
        lambda: next((e for e in daemon.get("/sessions/s/events")["data"] if e["type"] == "session.edit_refused"), None)
    )
    assert event["reason"]
    assert (path.parent / event["kept_as"]).read_text() == text
    until(lambda: json.loads(path.read_text())["title"] == "right" if path.read_text() != text else False)
    assert daemon.get("/sessions/s")["title"] == "right"


def test_an_edit_made_while_no_daemon_ran_is_taken_over_at_the_start(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    daemon.request("POST", "/sessions", {"session_id": "s"})
    assert daemon.stop() == 0
    edit(metadata(daemon, "s"), title="offline")
    daemon.start()
    until(lambda: daemon.get("/sessions/s")["title"] == "offline")


def test_changes_over_the_api_and_by_hand_do_not_undo_each_other(daemon: RealDaemon) -> None:
    daemon.request("POST", "/sessions", {"session_id": "s"})
    for n in range(10):
        assert daemon.request("PATCH", "/sessions/s", {"title": f"t{n}"}).status == 200
        assert daemon.get("/sessions/s")["title"] == f"t{n}"
    until(lambda: json.loads(metadata(daemon, "s").read_text())["title"] == "t9")
    assert daemon.get("/sessions/s")["title"] == "t9"
    assert not [e for e in daemon.get("/sessions/s/events")["data"] if e.get("source") == "file"]
