"""What a session may be and become, in plain dicts, from its events alone: the model that the service is held to."""

from __future__ import annotations

import json
from typing import Any

from agentd.model.launch import EndedBy, Exit
from tests.service.run_witness import RunWitness

MAY_FOLLOW = {
    "waiting": {"queued", "cancelled", "failed"},
    "queued": {"running", "cancelled", "failed"},
    "running": {"completed", "failed", "timeout", "cancelled", "queued"},
}
TERMINAL = {"completed", "failed", "timeout", "cancelled"}
CANCELLED = ("cancelled_by_user", "session_cancelled")  #: what ends a task with all that it submitted
OF_STOP = {"cancelled_by_user": "cancelled", "session_cancelled": "cancelled", "session_timeout": "timeout"}


class Witness:
    """One session. `hear` takes each event once and in order, and says (AssertionError) what may not be."""

    def __init__(self, handed: dict[str, dict[str, Any]]) -> None:
        self.lines: list[bytes] = []  #: the whole history, also what is pruned from the disk
        self.runs = RunWitness(handed)
        self.usage = {"attempts": 0, "input_tokens": 0, "output_tokens": 0}  #: of attempts that have ended
        self.session: dict[str, Any] = {}
        self.tasks: dict[str, dict[str, Any]] = {}
        self.pruned: set[str] = set()
        self.edits_refused = 0

    def hear(self, line: bytes, boot: int, now: float, exits: dict[str, Exit]) -> None:
        """The next event, seen in this boot at this monotonic time; `exits` are those that its engine reported."""
        event = json.loads(line)
        assert event["seq"] == len(self.lines) + 1, f"event {event['seq']} follows {len(self.lines)}"
        assert line.endswith(b"\n")
        self.lines.append(line)
        name = event["type"].replace(".", "_")
        if name.startswith("run"):
            self.runs.hear(event, self.tasks, len(self.lines))
        else:
            getattr(self, name)(event, boot, now, exits) if name.startswith("task") else getattr(self, name)(event)

    # ------------------------------------------------------------------ the session

    def session_created(self, event: dict[str, Any]) -> None:
        assert len(self.lines) == 1
        self.session = dict(event["session"])

    def session_updated(self, event: dict[str, Any]) -> None:
        self.session |= event["changes"]

    def session_archived(self, event: dict[str, Any]) -> None:
        assert self.session["archived"] is not event["archived"]
        self.session["archived"] = event["archived"]

    def session_conversation(self, event: dict[str, Any]) -> None:
        told = {event["agent"]: event["conversation_id"]}
        self.session = self.session | {"conversations": self.session["conversations"] | told}

    def session_edit_refused(self, event: dict[str, Any]) -> None:
        self.edits_refused += 1

    def session_pruned(self, event: dict[str, Any]) -> None:
        for task_id in event.get("tasks", ()):
            if task_id in self.pruned:
                continue  # a crash left its files behind, and they are found again
            task = self.tasks.pop(task_id)
            self.pruned.add(task_id)
            assert task["state"] in TERMINAL, f"{task_id} was pruned while {task['state']}"
            assert not task["key"], f"{task_id} was pruned under its Idempotency-Key"
            needed = [t for t in self.tasks.values() if t["state"] == "waiting" and task_id in t["needs"]]
            assert not needed, f"{task_id} was pruned and is needed"
            assert not self.runs.waits_for(task_id), f"{task_id} was pruned, and its run had taken no note of its end"

    # ------------------------------------------------------------------ tasks

    def _to(self, task: dict[str, Any], state: str) -> None:
        assert state in MAY_FOLLOW.get(task["state"], ()), f"{task['task_id']} is {task['state']}, and became {state}"
        task["state"] = state
        task["seq"] = len(self.lines)

    def _needs_are_met(self, task: dict[str, Any]) -> bool:
        return all(need in self.pruned or self.tasks[need]["state"] == "completed" for need in task["needs"])

    def task_created(self, event: dict[str, Any], boot: int, now: float, exits: dict[str, Exit]) -> None:
        asked = event["task"]
        task_id = asked["task_id"]
        assert task_id not in self.tasks and task_id not in self.pruned
        task = {name: asked[name] for name in ("task_id", "state", "priority", "needs", "not_before", "retry")}
        task |= {"on_interrupt": asked["on_interrupt"], "attempt": 0, "stop": None, "seq": len(self.lines)}
        task |= {"key": event.get("key_hash"), "spec": asked["spec"], "boot": "", "pause": None}
        task |= {"parent": asked.get("parent_id"), "question": None, "told": {}}
        waits = not self._needs_are_met(task) or (task["not_before"] or "") > event["at"]
        assert task["state"] == ("waiting" if waits else "queued"), f"{task_id} was created as {task['state']}"
        assert not any(need in self.tasks and self._ended_badly(need) for need in task["needs"])
        parent = self.tasks.get(task["parent"])
        assert parent is None or not parent["stop"], f"{task_id} was submitted by a task that was asked to stop"
        self.tasks[task_id] = task
        if (workflow := asked.get("workflow")) is not None:
            self.runs.started(workflow, asked, self.tasks, len(self.lines))

    def _ended_badly(self, task_id: str) -> bool:
        return self.tasks[task_id]["state"] in TERMINAL - {"completed"}

    def task_queued(self, event: dict[str, Any], boot: int, now: float, exits: dict[str, Exit]) -> None:
        task = self.tasks[event["task_id"]]
        assert task["state"] == "waiting"
        assert self._needs_are_met(task), f"{task['task_id']} was queued before what it needs was completed"
        assert (task["not_before"] or "") <= event["at"], f"{task['task_id']} was queued before its time"
        self._to(task, "queued")

    def task_started(self, event: dict[str, Any], boot: int, now: float, exits: dict[str, Exit]) -> None:
        task = self.tasks[event["task_id"]]
        assert event["attempt"] == task["attempt"] + 1
        running = [t for t in self.tasks.values() if t["state"] == "running" and t["parent"] == task["parent"]]
        assert not self.spent(), f"{task['task_id']} started in a session that has used up its budget"
        assert len(running) < self.session["policy"]["max_parallel"], f"{task['task_id']} is one too many"
        if task["pause"] is not None and task["pause"][0] == boot:
            assert now >= task["pause"][1], f"{task['task_id']} was not given its pause"
        for other in self.tasks.values():
            beside = other["state"] == "queued" and other["parent"] == task["parent"] and other is not task
            if beside and other["pause"] is None:
                assert self._turn(task) < self._turn(other), f"{task['task_id']} overtook {other['task_id']}"
        self._to(task, "running")
        task |= {"attempt": event["attempt"], "boot": event["boot_id"], "pause": None, "told": {}}

    @staticmethod
    def _turn(task: dict[str, Any]) -> tuple[int, int]:
        return -task["priority"], task["seq"]

    def _running(self, event: dict[str, Any]) -> dict[str, Any]:
        task = self.tasks[event["task_id"]]
        assert task["state"] == "running"
        return task

    def task_spawned(self, event: dict[str, Any], boot: int, now: float, exits: dict[str, Exit]) -> None:
        assert event["attempt"] == self._running(event)["attempt"]

    def task_progress(self, event: dict[str, Any], boot: int, now: float, exits: dict[str, Exit]) -> None:
        task = self._running(event)
        task["message"] = event.get("message")
        task["told"] |= {name: value for name, value in (event.get("usage") or {}).items() if value is not None}

    def task_awaiting(self, event: dict[str, Any], boot: int, now: float, exits: dict[str, Exit]) -> None:
        self._running(event)["question"] = event.get("awaiting")

    def task_answered(self, event: dict[str, Any], boot: int, now: float, exits: dict[str, Exit]) -> None:
        task = self._running(event)
        assert task["question"], f"{task['task_id']} was answered and asked nothing"
        assert event["answered"]["ask_id"] == task["question"]["ask_id"]
        task["question"] = None

    def task_stop_requested(self, event: dict[str, Any], boot: int, now: float, exits: dict[str, Exit]) -> None:
        task = self._running(event)
        task["stop"] = task["stop"] or event["cause"]["code"]
        self._nothing_below(task, event["cause"]["code"])

    def _nothing_below(self, task: dict[str, Any], code: str) -> None:
        """With a cancelled task ends what it submitted: nothing of it may be left that nobody stops."""
        if code in CANCELLED:
            below = [t for t in self.tasks.values() if t["parent"] == task["task_id"] and t["state"] not in TERMINAL]
            left = [t["task_id"] for t in below if t["stop"] is None]
            assert not left, f"{task['task_id']} was cancelled, and what it submitted goes on: {left}"

    def _attempt_ended(self, task: dict[str, Any], end: dict[str, Any]) -> None:
        used = {name: value for name, value in (end.get("usage") or {}).items() if value is not None}
        told = {name: used.get(name) for name in task["told"]}
        assert told == task["told"], f"an attempt of {task['task_id']} had used {task['told']}, and ended with {told}"
        if task["question"] is not None and task["stop"] is None:
            assert "had no answer" in end["cause"]["message"]
        task["question"] = None
        self.usage["attempts"] += 1
        for name in ("input_tokens", "output_tokens"):
            self.usage[name] += used.get(name, 0)

    def spent(self) -> bool:
        """Whether the session has used up its budget of tokens."""
        budget = self.session["policy"].get("budget") or {}
        running = [task["told"] for task in self.tasks.values() if task["state"] == "running"]
        told = sum(each.get(name, 0) for each in [*running, self.usage] for name in ("input_tokens", "output_tokens"))
        return budget.get("max_tokens") is not None and told >= budget["max_tokens"]

    def task_finished(self, event: dict[str, Any], boot: int, now: float, exits: dict[str, Exit]) -> None:
        task = self.tasks[event["task_id"]]
        state, code = event["state"], event["cause"]["code"]
        assert state in TERMINAL
        assert event["cause"]["message"]
        if task["state"] == "running":
            assert (state, code) in self._ends_of(task, boot, exits)
            assert not self._may_retry(task, code, boot), f"{task['task_id']} ended and had a retry left"
            self._attempt_ended(task, event["end"])
        elif code == "dependency_failed":
            assert state == "failed" and task["state"] == "waiting"
            assert any(need in self.tasks and self._ended_badly(need) for need in task["needs"])
        else:
            assert state == "cancelled" and code in OF_STOP
            self._nothing_below(task, code)
        self._to(task, state)
        task["cause"] = code

    def _ends_of(self, task: dict[str, Any], boot: int, exits: dict[str, Exit]) -> list[tuple[str, str]]:
        """How a running attempt may end: by the recorded intent, else by its exit, or with the daemon it ran under."""
        if task["stop"] is not None:
            return [(OF_STOP.get(task["stop"], "failed"), task["stop"])]
        ends = [("failed", "interrupted")] if task["boot"] != f"boot{boot}" else []
        if (exit := exits.get(f"{task['task_id']}.{task['attempt']}")) is not None:
            ends.append(self._end_by(exit))
        return ends

    @staticmethod
    def _end_by(exit: Exit) -> tuple[str, str]:
        if exit.ended_by is EndedBy.EXIT:
            if exit.signal is not None:
                return "failed", "signal"
            return ("failed", "exit_code") if exit.exit_code else ("completed", "ok")
        if exit.ended_by is EndedBy.STOPPED:
            return "failed", "interrupted"
        return ("timeout" if exit.ended_by is EndedBy.TIMEOUT else "failed"), str(exit.ended_by)

    def _may_retry(self, task: dict[str, Any], code: str, boot: int) -> bool:
        if code == "interrupted" and task["on_interrupt"] == "retry" and task["boot"] != f"boot{boot}":
            return task["stop"] is None
        retry = task["retry"]
        return bool(retry and task["stop"] is None and code in retry["on"] and task["attempt"] <= retry["max"])

    def task_retried(self, event: dict[str, Any], boot: int, now: float, exits: dict[str, Exit]) -> None:
        task = self._running(event)
        code = event["end"]["cause"]["code"]
        assert code in {each[1] for each in self._ends_of(task, boot, exits)}
        assert self._may_retry(task, code, boot), f"{task['task_id']} is tried again and has no retry left"
        self._attempt_ended(task, event["end"])
        self._to(task, "queued")
        if event.get("next_attempt_at") is not None:
            pause = min(task["retry"]["max_backoff_s"], task["retry"]["backoff_s"] * 2 ** (task["attempt"] - 1))
            task["pause"] = (boot, now + pause * 0.999)

    # ------------------------------------------------------------------ as it is shown

    def stuck(self) -> list[str]:
        """Tasks that wait for what will never come."""
        waiting = (task for task in self.tasks.values() if task["state"] == "waiting")
        return [t["task_id"] for t in waiting if any(n in self.tasks and self._ended_badly(n) for n in t["needs"])]

    def ripe(self) -> bool:
        """Whether a task could start now, were a worker free."""
        if self.spent():
            return False
        queued = {t["parent"] for t in self.tasks.values() if t["state"] == "queued" and t["pause"] is None}
        running = [task["parent"] for task in self.tasks.values() if task["state"] == "running"]
        return any(running.count(parent) < self.session["policy"]["max_parallel"] for parent in queued)

    def overspent(self) -> list[str]:
        """Tasks that run although their session has used up its budget, and are not asked to stop."""
        going = [t["task_id"] for t in self.tasks.values() if t["state"] == "running" and t["stop"] is None]
        return going if self.spent() else []

    def live(self) -> set[str]:
        """Tasks that have not ended."""
        return {task_id for task_id, task in self.tasks.items() if task["state"] not in TERMINAL}

    def ended(self) -> set[str]:
        """Tasks that have, and are not pruned."""
        return self.tasks.keys() - self.live()
