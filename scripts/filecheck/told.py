"""What the outside knows: what the daemon acknowledged or showed, and the marks that the tasks left as they ran.

The driver writes both while it runs, one JSON object a line and one line a mark; `scripts/soaklib/told.py` says which.
"""

from __future__ import annotations

import json
import os
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from filecheck.life import TERMINAL
from filecheck.views import Session

Json = dict[str, Any]


class Told:
    """The driver's ledger, by what it is about."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.tasks: dict[str, Json] = {}  #: acknowledged, by id
        self.sessions: set[str] = set()
        self.gone: set[str] = set()  #: sessions whose deletion was acknowledged
        self.going: set[str] = set()  #: or asked for
        self.ends: list[Json] = []
        self.events: list[Json] = []
        self.progress: list[Json] = []
        self.cancels: set[str] = set()  #: tasks that somebody asked to cancel, whatever the answer
        self.killed: set[str] = set()  #: boots that were killed
        self.stopped: set[str] = set()  #: boots that were asked to stop
        self.struck: set[str] = set()  #: nonces of tasks whose processes were struck
        self.workers_struck = False
        self.boots = 0
        self.out_of_memory = False  #: the system ended processes for lack of memory meanwhile
        self.wrong: list[str] = []
        for line in lines:
            self._take(json.loads(line))

    def _take(self, each: Json) -> None:
        match each["told"]:
            case "task":
                before = self.tasks.setdefault(each["task_id"], each)
                if before["nonce"] != each["nonce"]:
                    self.wrong.append(f"{each['task_id']} was the answer to two different requests")
            case "session":
                self.sessions.add(each["session_id"])
            case "deleting":
                self.going.add(each["session_id"])
            case "deleted":
                self.gone.add(each["session_id"])
            case "cancelling":
                self.cancels.add(each["task_id"])
            case "end":
                self.ends.append(each)
            case "events":
                self.events.append(each)
            case "progress":
                self.progress.append(each)
            case "boot":
                self.boots += 1
            case "killed":
                self.killed.add(each["boot_id"])
            case "stopped":
                self.stopped.add(each["boot_id"])
            case "struck":
                self.struck.add(each["nonce"])
            case "worker":
                self.workers_struck = True
            case "out_of_memory":
                self.out_of_memory = True
            case "wrong":  # what the driver saw with its own eyes
                self.wrong.append(each["what"])

    # ------------------------------------------------------------------ against the files

    def compare(self, sessions: dict[str, Session]) -> list[str]:
        """What was acknowledged or shown, and is not so in the files."""
        wrong = [*self.wrong]
        wrong += [f"session {name} was deleted and is there" for name in self.gone & sessions.keys()]
        lost = self.sessions - sessions.keys() - self.going
        wrong += [f"session {name} was acknowledged and is not there" for name in sorted(lost)]
        wrong += self._acknowledged(sessions)
        wrong += self._shown(sessions)
        wrong += self._causes(sessions)
        wrong += self._once(sessions)
        return wrong

    def _of(self, sessions: dict[str, Session], each: Json) -> Session | None:
        """The session that an entry is about; None where it may be gone, or the journal no longer goes back so far."""
        session = sessions.get(each["session_id"])
        if session is None or (session.journal.records and session.journal.records[0]["seq"] > each.get("seq", 1)):
            return None
        return session

    def _acknowledged(self, sessions: dict[str, Session]) -> Iterable[str]:
        for task_id, each in self.tasks.items():
            session = self._of(sessions, each)
            if session is None:
                continue
            task = session.life.tasks.get(task_id)
            if task is None:
                if task_id not in session.life.pruned:
                    yield f"{task_id} was acknowledged and is not there"
            elif task["spec"]["env"]["SOAK_NONCE"] != each["nonce"]:
                yield f"{task_id} is another task than the one that was acknowledged"
        for each in self.progress:
            session = self._of(sessions, each)
            task = session.life.tasks.get(each["task_id"]) if session else None
            if task is not None and (task["items_processed"] or 0) < each["items_processed"]:
                shown = task["items_processed"]
                yield f"{each['task_id']} acknowledged {each['items_processed']} items and shows {shown}"

    def _shown(self, sessions: dict[str, Session]) -> Iterable[str]:
        """A terminal state that was seen is the end; an event that was streamed is in the journal, byte for byte."""
        for each in self.ends:
            session = self._of(sessions, each)
            end = session.life.ends.get(each["task_id"]) if session else None
            if session is None or each["task_id"] in session.life.pruned:
                continue
            seen = (each["state"], each["code"], each["seq"])
            if end is None or (end.task["state"], end.task["cause"]["code"], end.seq) != seen:
                yield f"{each['task_id']} was seen as {seen} and is {end and end.task['state']}"
        for each in self.events:
            session = self._of(sessions, each)
            for seq, crc in enumerate(each["crcs"], each["seq"]) if session else ():
                if (place := session.journal.ends.get(seq)) is None or place.crc != crc:  # type: ignore[union-attr]
                    yield f"event {seq} of {each['session_id']} was streamed and is not in the journal"

    def _once(self, sessions: dict[str, Session]) -> Iterable[str]:
        """One request, one task, however often it was sent."""
        made: Counter[str] = Counter()
        for session in sessions.values():
            made.update(
                task["spec"]["env"]["SOAK_NONCE"] for task in session.life.tasks.values() if not task["retry_of"]
            )
        yield from (f"request {nonce} made {count} tasks" for nonce, count in made.items() if count > 1)

    # ------------------------------------------------------------------ causes

    def _causes(self, sessions: dict[str, Session]) -> Iterable[str]:
        """Each end has a cause that something really gave."""
        for session in sessions.values():
            for task in session.life.tasks.values():
                if task["state"] not in TERMINAL:
                    yield f"{task['task_id']} was left {task['state']}"
                told = self.tasks.get(task["task_id"])
                expect = told["expect"] if told else None
                for attempt in task["attempts"]:
                    if attempt["cause"] is not None and (doubt := self._doubt(task, attempt, expect)):
                        yield f"{task['task_id']}.{attempt['n']} ended {attempt['cause']['code']}: {doubt}"
                struck = told is not None and told["nonce"] in self.struck  # a shell says which of its children died
                if (
                    task["state"] == "completed"
                    and not struck
                    and expect
                    and (doubt := _outcome(session, task, expect))
                ):
                    yield f"{task['task_id']} completed: {doubt}"

    def _doubt(self, task: Json, attempt: Json, expect: Json | None) -> str | None:
        """Why this cause cannot be right; None when it can."""
        cause, nonce = attempt["cause"], task["spec"]["env"]["SOAK_NONCE"]
        expected = expect["codes"] if expect is not None else None
        match cause["code"]:
            case "interrupted":
                return None if attempt["boot_id"] in self.killed else "its daemon was not killed"
            case "shutdown":
                return None if attempt["boot_id"] in self.stopped else "its daemon was not stopped"
            case "cancelled_by_user":
                return None if task["task_id"] in self.cancels else "nobody cancelled it"
            case "session_cancelled":
                return None if task["session_id"] in self.going else "nobody cancelled its session"
            case "out_of_memory":
                return None if self.out_of_memory else "the system had memory enough"
            case "worker_lost":
                return None if self.workers_struck else "no worker was struck"
            case "timeout":
                took, most = attempt["duration_s"], task["timeout_s"]
                return None if most is not None and (took is None or took >= most) else f"after {took} s of {most}"
            case "output_limit":
                most = task["max_output_bytes"]
                return None if most is not None and attempt["output_bytes"] == most else "not at its limit"
            case "ok" if attempt["exit_code"] != 0:
                return f"with exit code {attempt['exit_code']}"
            case "ok" | "signal" | "exit_code" if nonce in self.struck:  # what was stopped may have been woken
                return None
        if expected is not None and cause["code"] not in expected:
            return f"{expected} was to be expected ({cause['message']})"
        return None


def _outcome(session: Session, task: Json, expect: Json) -> str | None:
    """What a completed task should have left, and did not."""
    if "result" in expect and task["result"] != expect["result"]:
        return f"with the result {json.dumps(task['result'])[:80]}, not {json.dumps(expect['result'])[:80]}"
    name = f"{task['task_id']}.{task['attempt']}"
    if "output" in expect and name not in session.life.pruned_outputs:
        path = session.directory / "output" / f"{name}.log"
        data = path.read_bytes() if path.exists() else b""
        if [len(data), zlib.crc32(data)] != expect["output"]:
            return f"with {len(data)} bytes of output, which are not the {expect['output'][0]} that it wrote"
    return None


class Marks:
    """What tasks wrote as they ran: `NONCE TASK_ID ATTEMPT begin|end` a line."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.counts: Counter[tuple[str, int, str]] = Counter()
        for line in lines:
            _, task_id, attempt, what = line.split()
            self.counts[task_id, int(attempt), what] += 1

    def compare(self, sessions: dict[str, Session]) -> Iterable[str]:
        """Each attempt ran once at most, none ran that the journal does not know, and what completed ran to its end."""
        tasks = {task_id: task for each in sessions.values() for task_id, task in each.life.tasks.items()}
        for (task_id, attempt, what), count in self.counts.items():
            if count > 1:
                yield f"attempt {attempt} of {task_id} ran {count} times ({what})"
            if task_id in tasks and attempt > tasks[task_id]["attempt"]:
                yield f"attempt {attempt} of {task_id} ran, and the journal knows of {tasks[task_id]['attempt']}"
        for task_id, task in tasks.items():
            if task["state"] == "completed":
                for what in ("begin", "end"):
                    if not self.counts[task_id, task["attempt"], what]:
                        yield f"{task_id} is completed and left no mark of its {what}"


def survivors(mark: str) -> list[str]:
    """Processes whose command line has the mark; a zombie has no command line."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                command = Path("/proc", name, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if mark in command and "check_files" not in command and "filecheck" not in command:
                found.append(f"process {name} lives: {command[:120]}")
    return found
