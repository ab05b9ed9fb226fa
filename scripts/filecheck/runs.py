"""What the records of a session make of its runs of workflows, in plain JSON, held against their tasks."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

Json = dict[str, Any]

TERMINAL = {"completed", "failed", "timeout", "cancelled"}
_INTERRUPTIONS = ("interrupted", "shutdown", "worker_lost")
#: What a run may have ended as that one of its steps must have, too.
_OF_STEPS = ("failed", "interrupted")


class Runs:
    """Every run whose creation is in the journal; what does not follow from what came before is told to `say`."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.all: dict[str, Json] = {}
        self._say = say

    def apply(self, record: Json, tasks: dict[str, Json], pruned: set[str]) -> None:
        """The next record of a run; `tasks` are those of the session as they are now, `pruned` those that were."""
        run_id, kind = record["run_id"], record["type"].removeprefix("run.")
        if kind == "created":
            self.all[run_id] = {**deepcopy(record["run"]), "seq": record["seq"]}
            return
        run = self.all.get(run_id)
        if run is None:
            self._say(f"run.{kind} is of run {run_id}, which nobody made")
        elif (run["state"] == "running") is (kind == "resumed"):
            self._say(f"run.{kind} came to run {run_id}, which was {run['state']}")
        else:
            run["seq"] = record["seq"]
            match kind:
                case "step_ended":
                    self._step_ended(run, record, tasks, pruned)
                case "step_refused":
                    step = run["steps"].setdefault(record["step"], {})
                    step |= {"standing": "failed", "reason": record["reason"]}
                case "cancel_requested":
                    run["cancel_requested_at"] = run["cancel_requested_at"] or record["at"]
                case "resumed":
                    self._resumed(run, record)
                case "ended":
                    self._ended(run, record)

    def submitted(self, record: Json) -> None:
        """A task was created that is a step."""
        task, workflow = record["task"], record["task"]["workflow"]
        run = self.all.get(workflow["run_id"])
        if run is None:
            self._say(f"{task['task_id']} is a step of run {workflow['run_id']}, which nobody made")
            return
        step = run["steps"].get(workflow["step"], {})
        if run["state"] != "running" or step.get("standing") is not None:
            standing = step.get("standing", "to run")
            self._say(f"step {workflow['step']} was submitted while it was {standing}, its run {run['state']}")
        run["steps"][workflow["step"]] = {"tasks": [*step.get("tasks", ()), task["task_id"]], "standing": "live"}
        run["seq"] = record["seq"]

    def _step_ended(self, run: Json, record: Json, tasks: dict[str, Json], pruned: set[str]) -> None:
        name, task_id = record["step"], record["task_id"]
        step = run["steps"].setdefault(name, {})
        if step.get("standing") != "live" or step["tasks"][-1] != task_id:
            self._say(f"step {name} ended with {task_id}, and was {step}")
        task = tasks.get(task_id)
        if task is None:
            if task_id not in pruned:
                self._say(f"step {name} ended with {task_id}, which does not exist")
        elif record["standing"] != _standing(task):
            self._say(f"step {name} ended {record['standing']}, and {task_id} is {task['state']}")
        step["standing"] = record["standing"]
        step |= {key: record[key] for key in ("outputs", "refused") if record.get(key)}

    def _resumed(self, run: Json, record: Json) -> None:
        for name in record["again"]:
            if name in run["steps"]:
                run["steps"][name] = {"tasks": run["steps"][name]["tasks"]} if "tasks" in run["steps"][name] else {}
        run["resumed"] = [*run["resumed"], {"at": record["at"], "state": run["state"]}]
        run |= {"state": "running", "where": [], "reason": None, "ended_at": None, "cancel_requested_at": None}

    def _ended(self, run: Json, record: Json) -> None:
        standings = {step.get("standing") for step in run["steps"].values()}
        state, reason = record["state"], record.get("reason")
        if "live" in standings and not reason:
            self._say(f"run {run['run_id']} ended {state}, and steps of it had not")
        if state in _OF_STEPS and state not in standings and not reason:
            self._say(f"run {run['run_id']} ended {state}, and no step of it did")
        if state == "cancelled" and run["cancel_requested_at"] is None and "cancelled" not in standings:
            self._say(f"run {run['run_id']} ended cancelled, and nobody cancelled it")
        for step in run["steps"].values():
            if step.get("standing") == "live":
                step["standing"] = "interrupted"
        run |= {"state": state, "where": record.get("where") or [], "reason": reason, "ended_at": record["at"]}


def _standing(task: Json) -> str:
    """What a step is whose task is so."""
    if task["state"] not in TERMINAL:
        return "live"
    if task["state"] == "completed":
        return "completed"
    if (task["cause"] or {}).get("code") in _INTERRUPTIONS:
        return "interrupted"
    return "cancelled" if task["state"] == "cancelled" else "failed"
