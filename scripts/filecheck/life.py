"""What the records of a session make of it and its tasks: docs/operations.md's states, applied to plain JSON."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

from filecheck.runs import Runs

Json = dict[str, Any]

#: What may follow what.
FOLLOWS = {
    "waiting": {"queued", "cancelled", "failed"},
    "queued": {"running", "cancelled", "failed"},
    "running": {"completed", "failed", "timeout", "cancelled", "queued"},
}
TERMINAL = {"completed", "failed", "timeout", "cancelled"}
#: In which state each cause ends.
STATE_OF = {
    "ok": "completed",
    **dict.fromkeys(("timeout", "session_timeout"), "timeout"),
    **dict.fromkeys(("cancelled_by_user", "session_cancelled"), "cancelled"),
    **dict.fromkeys(("exit_code", "signal", "spawn_failed", "invalid_spec", "dependency_failed", "shutdown"), "failed"),
    **dict.fromkeys(("interrupted", "worker_lost", "output_limit", "out_of_memory"), "failed"),
    **dict.fromkeys(("agent_error", "no_result", "budget"), "failed"),
}
_NO_USAGE = dict.fromkeys(("max_rss_bytes", "user_s", "system_s"))
_PROGRESS = ("progress", "phase", "message", "items_processed", "items_failed")


class End(NamedTuple):
    """A task as its last event left it."""

    seq: int
    task: Json


class Life:
    """A session as of event `seq`. What does not follow from what came before is in `wrong`."""

    def __init__(self) -> None:
        self.seq = 0
        self.session: Json = {}
        self.tasks: dict[str, Json] = {}  #: every task whose creation is in the journal and that was not pruned
        self.ends: dict[str, End] = {}  #: those of them that ended
        self.kept: list[str] = []  #: finished ones that tasks.json still has
        self.most_kept: int | None = None  #: how many those may be; None until a record says so
        self.perhaps: set[str] = set()  #: those that ended before one did, and may have gone by then
        self.pruned: set[str] = set()
        self.pruned_outputs: set[str] = set()
        self.keys: dict[str, tuple[str, str | None, int]] = {}  #: hash of the body, task, seq; by the hash of the key
        self.partial: set[str] = set()  #: tasks that began before the journal that is kept
        self.started: dict[str, int] = {}  #: seq of the latest start of each task
        self.completed: dict[str, int] = {}  #: seq at which it completed
        self.wrong: list[str] = []
        self.runs = Runs(self._say)
        self.owed = 0  #: creations that came in one request with the last one, and must follow at once
        self._running: set[str] = set()

    def apply(self, record: Json) -> None:
        """The next record."""
        self.seq = record["seq"]
        kind = record["type"]
        self.owed = max(self.owed - 1, 0) if kind == "task.created" else self._cut_short()
        self.owed = max(self.owed, record.get("batch", 1) - 1)
        try:
            if kind.startswith("session."):
                self._session(kind, record)
            elif kind.startswith("task."):
                self._task(kind, record)
                self._active(record)
            elif kind.startswith("run."):
                self._run(kind, record)
                self._active(record)
        except (KeyError, TypeError, IndexError) as error:
            self._say(f"{kind} lacks what it needs: {error!r}")

    def _cut_short(self) -> int:
        if self.owed:
            self._say(f"of one request {self.owed} tasks are missing")
        return 0

    def _say(self, what: str) -> None:
        self.wrong.append(f"event {self.seq}: {what}")

    def _active(self, record: Json) -> None:
        if self.session and record["at"] > self.session["updated_at"]:
            self.session["updated_at"] = record["at"]

    # ------------------------------------------------------------------ the session

    def _session(self, kind: str, record: Json) -> None:
        if kind == "session.created":
            self.session = deepcopy(record["session"])
            self.most_kept = self.session["policy"]["tasks_kept"]
            self._key(record, None)
            return
        if "policy" in record.get("changes", ()):
            self.most_kept = record["changes"]["policy"]["tasks_kept"]
        if kind == "session.pruned":
            self._prune(record)
        elif self.session:
            self._active(record)
            if kind == "session.updated":
                self.session |= record["changes"]
            elif kind == "session.archived":
                self.session["archived"] = record["archived"]
            elif kind == "session.conversation":
                self.session["conversations"][record["agent"]] = record["conversation_id"]
        if self.session:
            self.session["seq"] = self.seq
        self._trim()

    def _prune(self, record: Json) -> None:
        for task_id in record.get("tasks", ()):
            task = self.tasks.pop(task_id, None)
            if task is not None and task["state"] not in TERMINAL:
                self._say(f"{task_id} was pruned while it was {task['state']}")
            self.ends.pop(task_id, None)
            self.partial.discard(task_id)
            if task_id in self.kept:
                self.kept.remove(task_id)
            self.pruned.add(task_id)
        self.pruned_outputs.update(record.get("outputs", ()))

    def _run(self, kind: str, record: Json) -> None:
        if not self.session:
            return  # it may have begun before the journal that is kept
        if kind == "run.created":
            self._key(record, None, made="a run")
        self.runs.apply(record, self.tasks, self.pruned)

    def _key(self, record: Json, task_id: str | None, made: str = "a session") -> None:
        if (key := record.get("key_hash")) is not None:
            if key in self.keys and task_id is None:
                self._say(f"{made} was made twice")
            self.keys[key] = (record["body_hash"], task_id, self.seq)

    def _trim(self) -> None:
        if self.most_kept is not None:
            del self.kept[: max(0, len(self.kept) - self.most_kept)]

    # ------------------------------------------------------------------ tasks

    def _task(self, kind: str, record: Json) -> None:
        task_id = record["task_id"]
        if kind == "task.created":
            self._create(task_id, record)
            return
        task = self.tasks.get(task_id)
        if task is None:
            if self.seq and not self.session:
                self.partial.add(task_id)  # it began in a segment that was pruned: it must be pruned, too
            else:
                self._say(f"{kind} of {task_id}, which does not exist")
            return
        if task["state"] in TERMINAL:
            self._say(f"{kind} of {task_id}, which ended as {task['state']}")
            return
        rule: Callable[[Json, Json], None] | None = getattr(self, "_" + kind.removeprefix("task."), None)
        if rule is not None:
            rule(task, record)
            task["seq"] = self.seq
        if task["state"] in TERMINAL and task_id not in self.ends:
            self.ends[task_id] = End(self.seq, task)
            self.kept.append(task_id)
            if self.most_kept is None:
                self.perhaps.add(task_id)
            if task["state"] == "completed":
                self.completed[task_id] = self.seq
            self._trim()

    def _create(self, task_id: str, record: Json) -> None:
        task = {"answered": None, "parent_id": None} | deepcopy(record["task"])
        if task_id in self.tasks or task_id in self.pruned:
            self._say(f"{task_id} was created twice")
        first = {"state": task["state"], "at": task["created_at"], "attempt": 0, "cause": None}
        if task["state"] not in ("waiting", "queued") or task["transitions"] != [first]:
            self._say(f"{task_id} was created as {task['state']}, with {len(task['transitions'])} steps behind it")
        if task["attempt"] or task["attempts"] or task["cause"] or task["ended_at"]:
            self._say(f"{task_id} was created with a past")
        self.tasks[task_id] = task | {"seq": self.seq}
        self._key(record, task_id)
        if self.session and task.get("workflow") is not None:
            self.runs.submitted(record)

    def _move(self, task: Json, to: str, record: Json, cause: Json | None = None) -> None:
        if to not in FOLLOWS[task["state"]]:
            self._say(f"{task['task_id']} went from {task['state']} to {to}")
        task["state"], task["cause"] = to, cause
        task["transitions"].append({"state": to, "at": record["at"], "attempt": task["attempt"], "cause": cause})
        (self._running.add if to == "running" else self._running.discard)(task["task_id"])

    def _queued(self, task: Json, record: Json) -> None:
        if task["state"] != "waiting":
            self._say(f"{task['task_id']} was queued while {task['state']}")
        if open_needs := [need for need in task["needs"] if need in self.tasks and need not in self.completed]:
            self._say(f"{task['task_id']} was queued while it needed {open_needs}")
        if task["not_before"] is not None and task["not_before"] > record["at"]:
            self._say(f"{task['task_id']} was queued at {record['at']}, before its time {task['not_before']}")
        self._move(task, "queued", record)
        task["queued_at"] = record["at"]

    def _started(self, task: Json, record: Json) -> None:
        if record["attempt"] != task["attempt"] + 1:
            self._say(f"attempt {record['attempt']} of {task['task_id']} followed {task['attempt']}")
        task["attempt"] = record["attempt"]
        self._move(task, "running", record)
        most = self.session["policy"]["max_parallel"] if self.session else None
        beside = sum(self.tasks[each]["parent_id"] == task["parent_id"] for each in self._running)
        if most is not None and beside > most:
            self._say(f"{beside} tasks of {task['parent_id']} ran at once in a session that may run {most}")
        nothing = ("pid", "pid_started_at", "ended_at", "duration_s", "exit_code", "signal", "cause", "usage")
        task["attempts"].append(
            {
                "n": record["attempt"],
                "worker_id": record["worker_id"],
                "boot_id": record["boot_id"],
                "started_at": record["at"],
                **dict.fromkeys((*nothing, "output_bytes")),
            }
        )
        task["started_at"] = task["started_at"] or record["at"]
        if task["wait_s"] is None:
            task["wait_s"] = record.get("wait_s")
        task["next_attempt_at"] = task["answered"] = None
        self.started[task["task_id"]] = self.seq

    def _running_only(self, task: Json, what: str) -> None:
        if task["state"] != "running":
            self._say(f"{task['task_id']} was {what} while {task['state']}")

    def _spawned(self, task: Json, record: Json) -> None:
        self._running_only(task, "spawned")
        task["attempts"][-1] |= {"pid": record["pid"], "pid_started_at": record["pid_started_at"]}

    def _progress(self, task: Json, record: Json) -> None:
        self._running_only(task, "told of progress")
        task |= {field: record[field] for field in _PROGRESS if record.get(field) is not None}
        if (told := record.get("usage")) is not None:
            last = task["attempts"][-1]
            last["usage"] = _NO_USAGE | (last["usage"] or {}) | {k: v for k, v in told.items() if v is not None}

    def _awaiting(self, task: Json, record: Json) -> None:
        self._running_only(task, "awaiting")
        task["awaiting"] = record.get("awaiting")

    def _answered(self, task: Json, record: Json) -> None:
        self._running_only(task, "answered")
        if task["awaiting"] is None or task["awaiting"]["ask_id"] != record["answered"]["ask_id"]:
            self._say(f"{task['task_id']} was answered what it did not ask")
        task |= {"awaiting": None, "answered": record["answered"]}

    def _stop_requested(self, task: Json, record: Json) -> None:
        self._running_only(task, "asked to stop")
        if task["stop_cause"] is None:
            task |= {"cancel_requested_at": record["at"], "stop_cause": record["cause"]}

    def _finished(self, task: Json, record: Json) -> None:
        cause, state = record["cause"], record["state"]
        self._judge(task, state, cause)
        end = record.get("end")
        if (task["state"] == "running") != (end is not None):
            self._say(f"{task['task_id']} ended while {task['state']}, {'with' if end else 'without'} an attempt's end")
        if end is not None:
            self._attempt_ended(task, end, record)
        self._move(task, state, record, cause)
        task |= {
            "ended_at": record["at"],
            "duration_s": end.get("duration_s") if end else None,
            "result": record.get("result"),
            "next_attempt_at": None,
            "awaiting": None,
        }

    def _judge(self, task: Json, state: str, cause: Json) -> None:
        """Every end has a cause, which fits its state and the recorded intent."""
        task_id, code = task["task_id"], cause.get("code")
        if STATE_OF.get(str(code)) != state:
            self._say(f"{task_id} ended {state} with cause {code}")
        if not str(cause.get("message", "")).strip():
            self._say(f"{task_id} ended {state} without a sentence that says why")
        intent = task["stop_cause"]
        if intent is not None and code != intent["code"]:
            self._say(f"{task_id} was to be stopped ({intent['code']}) and ended with cause {code}")

    def _retried(self, task: Json, record: Json) -> None:
        self._running_only(task, "retried")
        end = record["end"]
        if not str(end["cause"].get("message", "")).strip() or end["cause"]["code"] not in STATE_OF:
            self._say(f"an attempt of {task['task_id']} ended without a cause")
        self._attempt_ended(task, end, record)
        self._move(task, "queued", record, end["cause"])
        next_at = record.get("next_attempt_at")
        task |= {"queued_at": record["at"], "next_attempt_at": next_at, "awaiting": None}

    def _attempt_ended(self, task: Json, end: Json, record: Json) -> None:
        if task["state"] != "running" or not task["attempts"]:
            return
        last, cause = task["attempts"][-1], end["cause"]
        last |= {
            "ended_at": record["at"],
            "cause": cause,
            "exit_code": cause.get("exit_code"),
            "signal": cause.get("signal"),
            "duration_s": end.get("duration_s"),
            "usage": end.get("usage") or last["usage"],
            "output_bytes": end.get("output_bytes"),
        }
        for field in ("pid", "pid_started_at"):
            if end.get(field) is not None:
                last[field] = end[field]
        if self.session.get("usage") is not None:
            self.session["usage"] = _used(self.session["usage"], end)


def _used(before: Json, end: Json) -> Json:
    """What a session has used, with one more attempt."""
    usage = end.get("usage") or {}
    more = {name: end.get(name) or 0 for name in ("duration_s", "output_bytes")}
    more |= {name: usage.get(name) or 0 for name in ("input_tokens", "output_tokens", "cost_usd")}
    cpu_s = (usage.get("user_s") or 0) + (usage.get("system_s") or 0)
    return {
        "attempts": before["attempts"] + 1,
        "wall_s": round(before["wall_s"] + more.pop("duration_s"), 6),
        "cpu_s": round(before["cpu_s"] + cpu_s, 6),
        "max_rss_bytes": max(before["max_rss_bytes"], usage.get("max_rss_bytes") or 0),
        **{name: round(before[name] + each, 9) for name, each in more.items()},
    }
