"""A real daemon on a file system whose power is cut while it works: what it acknowledged is there when it is back."""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchlib.daemon import Client, Daemon
from benchlib.processes import until
from faultlib import images
from faultlib.images import LOG_WRITTEN, NOTHING_MORE, Image

SEED = 20260102
SESSIONS = ("north", "south")
#: Of the facts of a round, at least and at most so many are acknowledged before the power goes.
FACTS = (5, 120)


class Dark(Exception):
    """The power is gone: no answer that comes now has left the machine."""


class Ledger:
    """What the daemon has acknowledged, as its clients remember it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.dark = False  #: the power is being cut
        self.specs: dict[str, Any] = {}  #: of every task that was accepted
        self.ended: dict[str, Any] = {}  #: every task that was shown terminal, in full
        self.titles: dict[
            str, list[str | None]
        ] = {}  #: the acknowledged title, and behind it those that were asked for
        self.deleted: set[str] = set()

    def __len__(self) -> int:
        return len(self.specs) + len(self.ended) + len(self.deleted)

    def __enter__(self) -> None:
        self._lock.acquire()
        if self.dark:
            self._lock.release()
            raise Dark

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def wrong(self, client: Client) -> list[str]:
        """What the daemon now says differently."""
        found = []
        for task_id, spec in self.specs.items():
            status, data = client.raw("GET", f"/tasks/{task_id}")
            if status != 200 or json.loads(data)["spec"] != spec:
                found.append(f"task {task_id} was accepted, and now: {status} {data[:200]!r}")
            elif task_id in self.ended and json.loads(data) != self.ended[task_id]:
                found.append(f"task {task_id} had ended as {self.ended[task_id]}, and now: {data!r}")
        for session_id, titles in self.titles.items():
            status, data = client.raw("GET", f"/sessions/{session_id}")
            if status != 200 or json.loads(data)["title"] not in titles:
                found.append(f"session {session_id} has none of the titles {titles}: {status} {data[:200]!r}")
            else:
                self.titles[session_id] = [json.loads(data)["title"]]
        found += [f"session {each} is back" for each in self.deleted if client.status(f"/sessions/{each}") != 404]
        return found


class Load(threading.Thread):
    """A client that submits, waits, renames, creates and deletes until nobody answers."""

    def __init__(self, client: Client, session_id: str, ledger: Ledger, round_: int) -> None:
        super().__init__()
        self._client = client
        self._session_id = session_id
        self._ledger = ledger
        self._round = round_
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            for number in range(100_000):
                self._step(number)
        except (Dark, OSError, http.client.HTTPException, RuntimeError):
            pass  # the daemon refuses, or is gone too
        except Exception as error:
            self.error = error

    def _step(self, number: int) -> None:
        ledger, client, name = self._ledger, self._client, f"{self._session_id}-{self._round}-{number}"
        task = client.call("POST", f"/sessions/{self._session_id}/task", {"spec": {"argv": ["echo", name]}})
        with ledger:
            ledger.specs[task["task_id"]] = task["spec"]
        if number % 2:
            ended = client.wait(task["task_id"])
            with ledger:
                ledger.ended[task["task_id"]] = ended
        if number % 5 == 4:
            ledger.titles[self._session_id].append(name)
            client.call("PATCH", f"/sessions/{self._session_id}", {"title": name})
            with ledger:
                ledger.titles[self._session_id] = [name]
        if number % 7 == 6:
            client.call("POST", "/sessions", {"session_id": name})
            with ledger:
                ledger.titles[name] = [None]
            if number % 14 == 13:
                ledger.titles.pop(name)
                client.call("DELETE", f"/sessions/{name}")
                with ledger:
                    ledger.deleted.add(name)


def rounds(image: Image, count: int) -> dict[str, Any]:
    """Start, work, cut, mount, start, compare; so many times on one data directory."""
    rng = random.Random(SEED)
    ledger = Ledger()
    image.root.chmod(0o700)
    daemon = Daemon(image.root, workers_max=2)  # its log is beside the mount, so that it outlives the cut
    wrong: list[str] = []
    for number in range(count):
        daemon.start()
        with daemon.client() as client:
            for session_id in SESSIONS if number == 0 else ():
                client.call(
                    "POST", "/sessions", {"session_id": session_id, "title": "new", "policy": {"max_parallel": 2}}
                )
                ledger.titles[session_id] = ["new"]
        ledger.dark = False
        enough = len(ledger) + rng.randint(*FACTS)
        loads = [Load(daemon.client(), session_id, ledger, number) for session_id in SESSIONS]
        for load in loads:
            load.start()
        with daemon.client() as client:
            until(lambda enough=enough: len(ledger) >= enough, 120)  # type: ignore[misc]
            with ledger:
                ledger.dark = True
            image.cut(rng.choice((NOTHING_MORE, LOG_WRITTEN)))
            status, data = client.raw("POST", f"/sessions/{SESSIONS[0]}/task", {"spec": {"argv": ["true"]}})
            wrong += [f"round {number}: acknowledged without power: {data!r}"] if status < 400 else []
        daemon.kill(workers_too=True)
        for load in loads:
            load.join()
        wrong += [f"round {number}: {load.error!r}" for load in loads if load.error is not None]
        until(lambda: _done(image.unmount), 60)  # its tasks may still be ending
        image.mount()
        daemon.start()
        with daemon.client() as client:
            wrong += [f"round {number}: {each}" for each in ledger.wrong(client)]
            report = client.call("POST", "/admin/check")
            wrong += [f"round {number}: check finds {each}" for each in report["findings"]]
        daemon.stop()
        if wrong:
            break
    return {"rounds": count, "facts": len(ledger), "wrong": wrong}


def _done(step: Callable[[], None]) -> bool:
    try:
        step()
    except subprocess.CalledProcessError:
        return False
    return True


if __name__ == "__main__":
    kind, directory, times = sys.argv[1:]
    image = Image(kind, images.memory(Path(directory) / kind))
    try:
        print(json.dumps(rounds(image, int(times))))
    except RuntimeError:
        print(image.root.with_suffix(".log").read_text()[-3000:], file=sys.stderr)
        raise
