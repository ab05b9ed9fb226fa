"""Make a data directory of this version with every shape there is, for later versions to load: see README.md here.

.venv/bin/python -m tests.data.freeze tests/data/vN
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from agentd.http.tokens import TokenFile
from agentd.store.journal import crc_of, sealed, seq_of
from tests.daemon.harness import RealDaemon, until

SETTINGS: dict[str, Any] = {
    "drain_s": 0.2,
    "workers": {"min": 1, "max": 4, "grace_s": 0.2, "queues": ["default"]},
    "limits": {"journal_bytes": 6000},
}
LATER = "2999-01-01T00:00:00.000000Z"
EMPTY = ("output", "artifacts", "workspace", "home")


class Freezing:
    """A daemon that lives through everything, and what must be known of it for ever."""

    def __init__(self, data: Path) -> None:
        self.daemon = RealDaemon(data, **SETTINGS)
        self.data = data
        self.viewer = ""  #: a token
        self.after_load: dict[str, list[str]] = {}  #: tasks that the load changes: state and cause they then have

    def run(self) -> dict[str, Any]:
        """Live through it all, and die; the expectations."""
        self.daemon.start()
        self._ends()
        self._care()
        self._shutdown()
        self._torn_tail()
        self.daemon.start()
        self._last_boot()
        expected = self._known()
        self._die()
        self._a_later_minor()
        return expected

    # ------------------------------------------------------------------ the shapes

    def _session(self, session_id: str, **fields: object) -> None:
        answer = self.daemon.request("POST", "/sessions", {"session_id": session_id, **fields})
        assert answer.status == 201, answer.body

    def _ends(self) -> None:
        """Every cause that an attempt or a task can end with here."""
        daemon = self.daemon
        self._session("ends", title="Every end", labels={"team": "a", "ünïcode": "☃"}, policy={"max_parallel": 4})
        told = (
            "echo out; echo err >&2; printf '\\033[31mred\\033[0m\\n'; "
            'echo \'{"answer": 42, "deep": {"list": [1, null, true]}}\' > "$AGENTD_RESULT"; '
            'mkdir -p "$AGENTD_ARTIFACTS/deep"; echo kept > "$AGENTD_ARTIFACTS/deep/näme.txt"'
        )
        done = daemon.shell("ends", told, name="all of it", labels={"k": "v"}, priority=5, trigger={"type": "webhook"})
        daemon.wait(done["task_id"])
        failed = daemon.shell("ends", "exit 3", retry={"max": 2, "backoff_s": 0.01, "jitter": 0})
        waits = daemon.shell("ends", "true", needs=[failed["task_id"]])
        others = [
            daemon.shell("ends", "kill -9 $$"),
            daemon.shell("ends", "exec sleep 600", timeout_s=0.1),
            daemon.shell("ends", "yes", max_output_bytes=2000),
            daemon.request(
                "POST", "/sessions/ends/task", {"spec": {"argv": ["/no/such/program"]}, "name": "not there"}
            ).json,
        ]
        for task in (failed, waits, *others):
            daemon.wait(task["task_id"])
        lost = daemon.shell("ends", "echo here; exec sleep 600")
        daemon.state(lost["task_id"], "running")
        worker = until(lambda: next((w for w in daemon.workers() if w.get("task_id") == lost["task_id"]), None))
        os.kill(worker["pid"], signal.SIGKILL)
        daemon.wait(lost["task_id"])
        stopped = daemon.shell("ends", "exec sleep 600")
        daemon.state(stopped["task_id"], "running")
        daemon.request(
            "POST", f"/tasks/{stopped['task_id']}/progress", {"progress": 40, "phase": "fetch", "message": "half"}
        )
        daemon.request("POST", f"/tasks/{stopped['task_id']}/cancel")
        daemon.wait(stopped["task_id"])
        again = daemon.request("POST", f"/tasks/{others[0]['task_id']}/retry", Idempotency_Key="retry-1").json
        daemon.wait(again["task_id"])
        self._session("timed", policy={"timeout_s": 0.2})
        daemon.wait(daemon.shell("timed", "exec sleep 600")["task_id"])
        self._session("cancelled")
        first = daemon.shell("cancelled", "exec sleep 600")
        second = daemon.shell("cancelled", "true")
        daemon.state(first["task_id"], "running")
        daemon.request("POST", "/sessions/cancelled/cancel")
        for task in (first, second):
            daemon.wait(task["task_id"])

    def _care(self) -> None:
        """Edits by API and by hand, the archive, retention, tokens, keys."""
        daemon = self.daemon
        daemon.request("PATCH", "/sessions/cancelled", {"archived": True, "title": "Out of the way"})
        keep = {"tasks": {"max_count": 2}, "output": {"max_count": 1}, "sessions": {}}
        self._session("pruned", policy={"tasks_kept": 1, "retention": keep})
        for number in range(12):
            daemon.wait(daemon.shell("pruned", f"echo {number}", name="n" * 200)["task_id"])
        until(lambda: len(os.listdir(self.data / "sessions/pruned/history")) > 12)
        assert daemon.request("POST", "/admin/cleanup").status == 200
        self._session("edited", policy={"pinned": True})
        path = self.data / "sessions/edited/metadata.json"
        path.write_text(path.read_text().replace('"title": null', '"title": "by hand"'))
        until(lambda: daemon.get("/sessions/edited")["title"] == "by hand")
        path.write_text('{"not": "a session"')
        until(lambda: list(path.parent.glob("metadata.json.refused-*")))
        body = {"spec": {"command": "true"}}
        keyed = daemon.request("POST", "/sessions/edited/task", body, Idempotency_Key="task-1").json
        daemon.wait(keyed["task_id"])
        _, self.viewer = TokenFile(self.data).create("test", "viewer", 1_767_322_984.0)

    def _shutdown(self) -> None:
        """A clean stop under a task that runs."""
        self._session("stopped")
        runs = self.daemon.shell("stopped", "exec sleep 600")
        self.daemon.state(runs["task_id"], "running")
        assert self.daemon.stop() == 0

    def _torn_tail(self) -> None:
        """Half a record that nobody was told of: the next start keeps it in quarantine."""
        with self._segments("stopped")[-1].open("ab") as journal:
            journal.write(b'{"seq":99,"b":99,"sess')

    def _last_boot(self) -> None:
        """Tasks in every state that a crash may find."""
        daemon = self.daemon
        self._session("live", policy={"max_parallel": 3})
        running = daemon.shell("live", "echo begun; exec sleep 600")
        waiting = daemon.shell("live", "true", needs=[running["task_id"]])
        again = '[ "$AGENTD_ATTEMPT" = 2 ] || { echo begun; exec sleep 600; }'
        retried = daemon.shell("live", again, on_interrupt="retry")
        later = daemon.shell("live", "true", not_before=LATER)
        queued = daemon.shell("live", "true", queue="elsewhere", priority=-3)
        for task in (running, retried):
            daemon.state(task["task_id"], "running")
            until(lambda task=task: daemon.request("GET", f"/tasks/{task['task_id']}/output").body)  # type: ignore[misc]
        self.after_load = {
            running["task_id"]: ["failed", "interrupted"],
            waiting["task_id"]: ["failed", "dependency_failed"],
            retried["task_id"]: ["completed", "ok"],
            later["task_id"]: ["waiting", ""],
            queued["task_id"]: ["queued", ""],
        }

    def _die(self) -> None:
        until(lambda: not self._behind())
        self.daemon.kill9()
        self.daemon.end()

    def _behind(self) -> bool:
        """Whether a snapshot is behind its journal."""
        for session in (self.data / "sessions").iterdir():
            head = json.loads((session / "tasks.json").read_bytes().split(b",\n")[0] + b"}")
            if head["journal"]["offset"] != self._segments(session.name)[-1].stat().st_size:
                return True
        return False

    def _segments(self, session_id: str) -> list[Path]:
        return sorted((self.data / "sessions" / session_id / "history").glob("events-*.jsonl"))

    def _a_later_minor(self) -> None:
        """What a later version of the same format may add: a type of event, a field of a known one."""
        journal = self._segments("edited")[-1]
        lines = journal.read_bytes().splitlines()
        seq = seq_of(lines[-1])
        assert seq is not None
        crc = int(lines[-1][-10:-2], 16)
        assert crc_of(lines[-1], int(lines[-2][-10:-2], 16)) == crc
        at = "2026-01-02T03:04:05.678901Z"
        with journal.open("ab") as file:
            for number, fields in enumerate(
                (
                    f'"type":"session.rated","at":"{at}","stars":5',
                    f'"type":"session.updated","at":"{at}","changes":{{"title":"later"}},"mood":{{"x":[1]}}',
                ),
                seq + 1,
            ):
                line, crc = sealed(
                    b'{"seq":%d,"b":%d,"session_id":"edited",%b' % (number, number, fields.encode()), crc
                )
                file.write(line)

    # ------------------------------------------------------------------ what is known

    def _known(self) -> dict[str, Any]:
        """What the API says of everything, as it must say it for ever."""
        daemon = self.daemon
        sessions = {}
        for view in daemon.get("/sessions?archived=any&limit=1000")["data"]:
            path = f"/sessions/{view['session_id']}"
            history = daemon.get(f"{path}/history?limit=1000")["data"]
            tasks = {task["task_id"]: task for task in [*daemon.get(path)["tasks"], *history]}
            logs = {}
            for task_id, task in tasks.items():
                for attempt in range(1, task["attempt"] + 1):
                    output = daemon.request("GET", f"/tasks/{task_id}/output?attempt={attempt}").body
                    logs[f"{task_id}.{attempt}"] = hashlib.sha256(output).hexdigest()
            sessions[view["session_id"]] = {
                "session": view,
                "tasks": tasks,
                "history": [task["task_id"] for task in history],
                "events": [[each["seq"], each["type"]] for each in daemon.get(f"{path}/events?limit=1000")["data"]],
                "artifacts": [each["path"] for each in daemon.get(f"{path}/artifacts")["data"]],
                "output": logs,
            }
        return {"sessions": sessions, "after_load": self.after_load, "viewer": self.viewer}


def thawed(frozen: Path, data: Path) -> None:
    """A copy as a daemon left it: with the modes and the empty directories that a checkout does not keep."""
    shutil.copytree(frozen / "data", data)
    (data / "quarantine").mkdir(exist_ok=True)
    for session in (data / "sessions").iterdir():
        for name in EMPTY:
            (session / name).mkdir(exist_ok=True)
    for path in [data, *data.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)


def main() -> None:
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as place:
        freezing = Freezing(Path(place) / "data")
        try:
            expected = freezing.run()
        finally:
            freezing.daemon.end()
        (freezing.data / "agent.json").unlink()  # where that daemon was
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(freezing.data, target / "data")
    (target / "expected.json").write_text(json.dumps(expected, sort_keys=True, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
