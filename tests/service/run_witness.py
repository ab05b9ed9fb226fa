"""What a run of a workflow may be and become, in plain dicts, from the events of its session alone."""

from __future__ import annotations

from typing import Any, NamedTuple

Json = dict[str, Any]
ENDED = {"completed", "failed", "timeout", "cancelled"}


class Flow(NamedTuple):
    """A workflow of the lives: its text, and what a reader of it knows without agentd."""

    text: str
    needs: dict[str, tuple[str, ...]]  #: by instance, those that must have ended before
    always: frozenset[str] = frozenset()  #: instances that run whatever came before
    tolerated: frozenset[str] = frozenset()  #: those whose failure does not count
    reads: tuple[str, str] = ("", "")  #: an instance, and the one whose output `n` it has as its N


FLOWS = {
    "chain": Flow(
        """
name: chain
steps:
  - {id: a, run: "true", outputs: [n]}
  - {id: b, needs: [a], run: "true", env: {N: "${{ steps.a.outputs.n }}"}}
  - {id: c, needs: [b], if: always(), run: "true"}
""",
        {"a": (), "b": ("a",), "c": ("b",)},
        always=frozenset({"c"}),
        reads=("b", "a"),
    ),
    "fan": Flow(
        """
name: fan
steps:
  - {id: m, matrix: {k: [1, 2]}, run: "true"}
  - {id: may, run: "true", continue_on_error: true, retry: {max: 1, backoff_s: 3, jitter: 0}}
  - {id: end, needs: [m, may], run: "true"}
""",
        {"m[k=1]": (), "m[k=2]": (), "may": (), "end": ("m[k=1]", "m[k=2]", "may")},
        tolerated=frozenset({"may"}),
    ),
}


class RunWitness:
    """The runs of one session. `handed` are the outputs that each attempt wrote, by attempt."""

    def __init__(self, handed: dict[str, Json]) -> None:
        self.runs: dict[str, Json] = {}
        self._handed = handed

    def hear(self, event: Json, tasks: dict[str, Json], seq: int) -> None:
        """The next event of a run; `tasks` are those of the session as they are now."""
        run_id, name = event["run_id"], event["type"].removeprefix("run.")
        if name == "created":
            assert run_id not in self.runs
            self.runs[run_id] = {"flow": FLOWS[event["run"]["name"]], "state": "running", "steps": {}, "cancel": False}
        else:
            run = self.runs[run_id]
            assert (run["state"] == "running") is (name != "resumed"), f"{name} came to a run that is {run['state']}"
            getattr(self, "_" + name)(run, event, tasks)
        self.runs[run_id]["seq"] = seq

    def started(self, workflow: Json, task: Json, tasks: dict[str, Json], seq: int) -> None:
        """A task was created that is a step."""
        run, name = self.runs[workflow["run_id"]], workflow["step"]
        flow: Flow = run["flow"]
        assert run["state"] == "running", "a step of a run that has ended was submitted"
        step = run["steps"].setdefault(name, {"tasks": [], "standing": None, "outputs": {}})
        assert step["standing"] is None, f"step {name} was submitted twice"
        for need in flow.needs[name]:
            assert self._settled(run, need), f"step {name} was submitted before {need} had ended"
            assert name in flow.always or self._passes(run, need), f"step {name} was submitted, and {need} did not pass"
        assert not run["cancel"] or name in flow.always, f"step {name} was submitted in a run that was cancelled"
        if name == flow.reads[0]:
            given = task["spec"]["env"]["N"]
            assert given == run["steps"][flow.reads[1]]["outputs"].get("n", ""), f"step {name} was given {given!r}"
        step["tasks"].append(task["task_id"])
        step |= {"standing": "live", "outputs": {}}
        run["seq"] = seq

    def _step_ended(self, run: Json, event: Json, tasks: dict[str, Json]) -> None:
        step = run["steps"][event["step"]]
        assert (step["standing"], step["tasks"][-1]) == ("live", event["task_id"])
        task = tasks[event["task_id"]]
        assert task["state"] in ENDED, f"step {event['step']} ended, and its task is {task['state']}"
        assert event["standing"] == standing_of(task)
        written = self._handed.get(f"{task['task_id']}.{task['attempt']}", {})
        declared = written if run["flow"].reads[1] == event["step"] else {}
        if event["standing"] == "completed":  # what another attempt wrote may be torn, and nobody asks for it
            assert event.get("outputs", {}) == declared, (
                f"{event['step']} handed on {declared}, and {event} is recorded"
            )
        step |= {"standing": event["standing"], "outputs": event.get("outputs", {})}

    def _step_refused(self, run: Json, event: Json, tasks: dict[str, Json]) -> None:
        raise AssertionError(f"nothing of these workflows can be refused: {event}")

    def _cancel_requested(self, run: Json, event: Json, tasks: dict[str, Json]) -> None:
        run["cancel"] = True

    def _resumed(self, run: Json, event: Json, tasks: dict[str, Json]) -> None:
        assert event["again"]
        for name in event["again"]:
            step = run["steps"].get(name)
            if step is not None:
                assert not self._passes(run, name), f"{name} had completed and runs again"
                step |= {"standing": None, "outputs": {}}
        run |= {"state": "running", "cancel": False}

    def _ended(self, run: Json, event: Json, tasks: dict[str, Json]) -> None:
        flow: Flow = run["flow"]
        left = [name for name in flow.needs if not self._settled(run, name)]
        assert not left, f"the run ended {event['state']}, and these had not: {left}"
        found = {step["standing"] for name, step in run["steps"].items() if not self._passes(run, name)} - {None}
        held_back = [name for name in flow.needs if self._standing(run, name) is None and name not in flow.always]
        if run["cancel"] and (found or held_back):
            state = "cancelled"
        else:
            state = next((each for each in ("failed", "interrupted", "cancelled") if each in found), "completed")
        assert event["state"] == state, f"the run of {run['steps']} ended {event['state']}"
        run["state"] = state

    @staticmethod
    def _standing(run: Json, name: str) -> str | None:
        standing: str | None = run["steps"].get(name, {}).get("standing")
        return standing

    def _passes(self, run: Json, name: str) -> bool:
        standing = self._standing(run, name)
        return standing == "completed" or (standing == "failed" and name in run["flow"].tolerated)

    def _settled(self, run: Json, name: str) -> bool:
        """Whether it has ended, or is one of those that will not run."""
        standing = self._standing(run, name)
        if standing is not None:
            return standing != "live"
        flow: Flow = run["flow"]
        needs = flow.needs[name]
        if not all(self._settled(run, need) for need in needs) or name in flow.always:
            return False
        return run["cancel"] or not all(self._passes(run, need) for need in needs)

    # ------------------------------------------------------------------ as it is shown

    def live(self) -> set[str]:
        """Runs that have not ended."""
        return {run_id for run_id, run in self.runs.items() if run["state"] == "running"}

    def waits_for(self, task_id: str) -> bool:
        """Whether a step that has not ended is this task."""
        steps = (step for run_id in self.live() for step in self.runs[run_id]["steps"].values())
        return any(step["standing"] == "live" and step["tasks"][-1] == task_id for step in steps)

    def stuck(self, tasks: dict[str, Json]) -> list[str]:
        """Runs that show themselves as running, and of which nothing runs or could."""
        found = []
        for run_id in self.live():
            steps = self.runs[run_id]["steps"].values()
            going = [step["tasks"][-1] for step in steps if step["standing"] == "live"]
            if not any(task_id in tasks and tasks[task_id]["state"] not in ENDED for task_id in going):
                found.append(run_id)
        return found


def standing_of(task: Json) -> str:
    """What a step is whose task has ended so."""
    if task["state"] == "completed":
        return "completed"
    if task["cause"] in ("interrupted", "shutdown", "worker_lost"):
        return "interrupted"
    return "cancelled" if task["state"] == "cancelled" else "failed"
