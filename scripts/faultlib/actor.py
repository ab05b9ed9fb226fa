"""The client of a real daemon's life, and all that it was told.

It notes for everything it asks what must be so: while it waits for the answer either the old or the new, after it the
new alone. Each attempt of a task appends its name to one file outside the data directory, so that nothing runs twice
unseen.
"""

from __future__ import annotations

import contextlib
import copy
import http.client
import json
import os
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

from faultlib.programs import DELEGATES, FLOW, MARK
from faultlib.rig import PATIENCE_S, Rig
from tests.daemon.harness import Answer, until

V = TypeVar("V")

#: Output that a failing disk may have lost is waited for so long.
LOST_S = 3.0
#: Codes with which a disk that fails may be answered.
OF_THE_DISK = {"storage_full": 507, "storage_failed": 503, "session_read_only": 409, "unavailable": 503}


class Gone(Exception):
    """The daemon does not answer any more."""


class NotThere(Exception):
    """It answers that there is no such thing."""


class TooLate(Exception):
    """A task that is needed, or was to be told something, has ended: its worker was killed."""


class Belief(Generic[V]):
    """What something is: one value, or one of several while a change of it is not answered."""

    def __init__(self, value: V) -> None:
        self.values: list[V] = [value]

    def __repr__(self) -> str:
        return " or ".join(map(repr, self.values))


class Actor:
    """The client: acts, and remembers what it was told."""

    def __init__(self, rig: Rig, directory: Path) -> None:
        self.rig = rig
        self.gate = directory / "gate"
        self.marks = directory / "marks"
        self.marks.touch()
        self.sessions: dict[str, Belief[str | None]] = {}  #: titles; None is a session that is not there
        self.artifacts: dict[tuple[str, str], Belief[bytes | None]] = {}
        self.tasks: dict[str, dict[str, Any]] = {}  #: acknowledged, by id, as last seen
        self.posted: dict[str, tuple[dict[str, Any], str | None]] = {}  #: body and key by name, answered or not
        self.prunable: set[str] = set()
        self.cancelled: set[str] = set()  #: tasks whose cancellation was acknowledged
        self.runs: dict[str, dict[str, Any]] = {}  #: runs of workflows, as last seen
        self.output: dict[str, bytes] = {}  #: as far as it was seen
        self.refused: Counter[str] = Counter()  #: by code: what a failing disk was answered with
        self.lossy = False  #: output may be lost, and what is waited for may never come
        self.wrong: list[str] = []
        self.on_refusal: Callable[[], None] = lambda: None

    def copy(self) -> Actor:
        """The same, to be acted on by itself."""
        other = copy.copy(self)
        own = {name: copy.deepcopy(value) for name, value in vars(self).items() if name not in ("rig", "on_refusal")}
        vars(other).update(own)
        return other

    # ------------------------------------------------------------------ asking

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """One request, repeated while the disk refuses it; raises Gone when nobody answers."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = self.rig.request(method, path, body, **headers)
            except (OSError, http.client.HTTPException) as error:
                raise Gone from error
            if answer.status < 400:
                return answer
            self._check_refusal(method, path, answer)
            assert time.monotonic() < end, f"{method} {path} is refused for {PATIENCE_S:g} s: {answer.body!r}"
            time.sleep(0.02)

    def _check_refusal(self, method: str, path: str, answer: Answer) -> None:
        if answer.status == 404:
            raise NotThere(path)
        if answer.status == 422 and b"needs" in answer.body:
            raise TooLate(path)
        code = answer.json.get("code") if "json" in answer.headers.get("content-type", "") else None
        if code == "invalid_transition":
            raise TooLate(path)
        if OF_THE_DISK.get(code or "") != answer.status:
            raise AssertionError(f"{method} {path}: {answer.status} {answer.body[:300]!r}")
        self.refused[str(code)] += 1
        self.on_refusal()

    @contextlib.contextmanager
    def asking(self, belief: Belief[V], value: V) -> Iterator[None]:
        """It shall become `value`: until that is answered it may be that or what it was."""
        belief.values = [*belief.values, value]
        yield
        belief.values = [value]

    # ------------------------------------------------------------------ acting

    def create(self, session_id: str, title: str, **fields: object) -> None:
        belief = self.sessions.setdefault(session_id, Belief(None))
        with self.asking(belief, title):
            body = {"session_id": session_id, "title": title, **fields}
            self.ask("POST", "/sessions", body, Idempotency_Key=f"make-{session_id}")

    def rename(self, session_id: str, title: str) -> None:
        with self.asking(self.sessions[session_id], title):
            self.ask("PATCH", f"/sessions/{session_id}", {"title": title})

    def edit_by_hand(self, session_id: str, title: object) -> None:
        """Write another title into metadata.json, as an editor does; wait until the daemon took it or put it back."""
        path = self.rig.data_dir / "sessions" / session_id / "metadata.json"
        settled = until(lambda: self._at_rest(session_id, path), PATIENCE_S)
        other = path.with_name(".edited")
        other.write_text(json.dumps({**settled, "title": title}))
        other.chmod(0o600)
        belief = self.sessions[session_id]
        if isinstance(title, str):
            with self.asking(belief, title):
                os.replace(other, path)
                until(lambda: self.ask("GET", f"/sessions/{session_id}").json["title"] == title, PATIENCE_S)
        else:
            os.replace(other, path)
            until(lambda: (text := self._metadata(path)) is not None and text.get("title") in belief.values, PATIENCE_S)

    def _at_rest(self, session_id: str, path: Path) -> dict[str, Any] | None:
        """metadata.json, once it shows the title that was acknowledged last."""
        self.ask("GET", "/healthz")
        found = self._metadata(path)
        return found if found is not None and found["title"] in self.sessions[session_id].values else None

    def _metadata(self, path: Path) -> dict[str, Any] | None:
        self.ask("GET", "/healthz")  # Gone, rather than waiting for a daemon that was killed
        try:
            found: dict[str, Any] = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return None
        return found

    def delete(self, session_id: str) -> None:
        with self.asking(self.sessions[session_id], None), contextlib.suppress(NotThere):
            # Not there: it was removed, and the sync of that refused before.
            self.ask("DELETE", f"/sessions/{session_id}")

    def put(self, session_id: str, path: str, content: bytes) -> None:
        belief = self.artifacts.setdefault((session_id, path), Belief(None))
        with self.asking(belief, content):
            self.ask("PUT", f"/sessions/{session_id}/artifacts/{path}", content)

    def drop(self, session_id: str, path: str) -> None:
        with self.asking(self.artifacts[session_id, path], None), contextlib.suppress(NotThere):
            # Not there: it was removed, and the sync of that refused before.
            self.ask("DELETE", f"/sessions/{session_id}/artifacts/{path}")

    def submit(self, session_id: str, name: str, command: str, key: str | None = None, **fields: object) -> str:
        """A task; its id."""
        marked = f"{MARK}; {command}"
        body = {"session_id": session_id, "name": name, "spec": {"command": marked}, **fields}
        self.posted[name] = body, key
        return self._submitted(body, key)

    def _submitted(self, body: dict[str, Any], key: str | None) -> str:
        task = self.ask("POST", "/tasks", body, **({"Idempotency_Key": key} if key else {})).json
        self.tasks.setdefault(task["task_id"], task)
        return str(task["task_id"])

    def again(self, name: str) -> None:
        """Send a submit with its key once more, as a client does that was not answered: it is the same task."""
        body, key = self.posted[name]
        known = [task["task_id"] for task in self.tasks.values() if task["name"] == name]
        task_id = self._submitted(body, key)
        if known and known != [task_id]:
            self.wrong.append(f"the key of {name} made {task_id} beside {known}")

    def retry(self, task_id: str) -> str:
        task = self.ask("POST", f"/tasks/{task_id}/retry", Idempotency_Key=f"retry-{task_id}").json
        self.tasks.setdefault(task["task_id"], task)
        return str(task["task_id"])

    def cancel(self, task_id: str) -> None:
        """Cancel it, unless it has ended by itself: its worker may have been killed."""
        with self.unless_ended(task_id):
            self.ask("POST", f"/tasks/{task_id}/cancel")
            self.cancelled.add(task_id)

    def report(self, task_id: str, progress: float) -> None:
        """Report progress, unless it has ended by itself."""
        used = {"input_tokens": 5, "cost_usd": 0.25}
        with self.unless_ended(task_id):
            body = {"progress": progress, "message": "on the way", "usage": used}
            self.ask("POST", f"/tasks/{task_id}/progress", body)

    def question(self, task_id: str, ask_id: str) -> None:
        """Put a question of the task, unless it has ended by itself."""
        with self.unless_ended(task_id):
            self.ask("POST", f"/tasks/{task_id}/ask", {"ask_id": ask_id, "prompt": "may I?"})

    def answer(self, task_id: str) -> None:
        """Answer it, once: to one that was answered by a request of which only the answer got lost, nothing is said."""
        with contextlib.suppress(TooLate):
            self.ask("POST", f"/tasks/{task_id}/answer", {"answer": "yes"})

    def delegate(self, session_id: str, name: str, child: str, then: str) -> str:
        """A task that submits another one, and does something then."""
        submits = shlex.join([sys.executable, "-c", DELEGATES, f"of-{name}", f"{MARK}; {child}"])
        return self.submit(session_id, name, f"{submits}; {then}")

    def children(self, task_id: str) -> None:
        """What it was told that it has made is acknowledged, as if to us."""
        for line in self.output.get(task_id, b"").decode(errors="replace").splitlines():
            made, _, child = line.partition(" ")
            if made == "made":
                self.tasks.setdefault(child, self.ask("GET", f"/tasks/{child}").json)

    def run(self, session_id: str) -> None:
        """A workflow, from its first step to its end."""
        body = {"source": FLOW}
        path = f"/sessions/{session_id}/workflow"
        run = self.ask("POST", path, body, Idempotency_Key=f"run-{session_id}").json
        self.runs[run["run_id"]] = run
        path = f"/sessions/{session_id}/workflows/{run['run_id']}"
        until(lambda: self._seen(path)["state"] != "running", PATIENCE_S)

    def _seen(self, path: str) -> dict[str, Any]:
        run: dict[str, Any] = self.ask("GET", path).json
        self.runs[run["run_id"]] = run
        return run

    @contextlib.contextmanager
    def unless_ended(self, task_id: str) -> Iterator[None]:
        """What is asked meanwhile is refused to a task that has ended, and to no other."""
        try:
            yield
        except TooLate:
            task = self.ask("GET", f"/tasks/{task_id}").json
            assert task["state"] in ENDED, f"refused to {task}"

    def wait(self, *task_ids: str) -> None:
        for task_id in task_ids:
            end = time.monotonic() + PATIENCE_S
            while (task := self.ask("GET", f"/tasks/{task_id}/wait?timeout_s=5").json)["state"] not in ENDED:
                assert time.monotonic() < end, f"{task_id} does not end: {task}"
            self.tasks[task_id] = task

    def see(self, task_id: str, *texts: bytes) -> None:
        """Wait until the output has these, or the task has ended; remember what it was then."""
        enough = time.monotonic() + LOST_S

        def seen() -> tuple[bytes] | None:
            state = self.ask("GET", f"/tasks/{task_id}").json["state"]
            if state in ("waiting", "queued"):
                return None
            answer = self.rig.request("GET", f"/tasks/{task_id}/output")
            if answer.status != 200:
                return (b"",) if state in ENDED or (self.lossy and time.monotonic() > enough) else None
            lost = self.lossy and time.monotonic() > enough
            return (answer.body,) if lost or state in ENDED or all(each in answer.body for each in texts) else None

        with _gone():
            (self.output[task_id],) = until(seen, PATIENCE_S)

    def cleanup(self, session_id: str) -> None:
        self.prunable |= {t for t, task in self.tasks.items() if task["session_id"] == session_id}
        self.ask("POST", "/admin/cleanup")

    def stop(self) -> int:
        assert self.rig.process is not None
        self.rig.process.send_signal(signal.SIGTERM)
        if (code := self.rig.process.wait(PATIENCE_S)) == -signal.SIGKILL:
            raise Gone
        return code


ENDED = ("completed", "failed", "timeout", "cancelled")


@contextlib.contextmanager
def _gone() -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise Gone from error
