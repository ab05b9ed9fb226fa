"""What schemathesis is told beside the document: what a schema cannot say, since only the daemon's state knows it."""

from __future__ import annotations

import os
import shlex
from typing import Any

import schemathesis

from agentd.engines.local import system
from agentd.kinds.sandbox import options

#: Of a command, in characters; quoted, a longer one could be more than a daemon takes.
MOST = 30_000
#: One of the daemon's settings: those that are built in ask a model, where they are installed.
AGENT = "robot"
FACTS = system.found(options)
FLOW = "steps: [{id: a, run: 'true'}, {id: b, needs: [a], run: 'false'}]"
#: What is asked of the task that runs all the while, by the end of the path.
OF_RUNNING = ("answer", "ask", "input", "progress", "terminal")
#: What one request would have to know of another: which question is put, and what may be answered.
UNGUESSED = {"answer": "ask_id", "ask": "options"}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Keep commands harmless, and valid requests valid: what they name must be there, which nothing can guess."""
    tasks = [each for each in (case.body if isinstance(case.body, list) else [case.body]) if isinstance(each, dict)]
    for task in tasks:
        for place in (task, task.get("spec")):
            if isinstance(place, dict):
                _echo(place)
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if case.query:
        case.query.pop("cursor", None)  # what a page said, and nothing else
        case.query.pop("attempt", None)
        if "timeout_s" in case.query:
            case.query["timeout_s"] = 0  # to wait is no fault
    for task in tasks:
        for place in (task, task.get("spec")):
            if isinstance(place, dict):
                _possible(place)
        task.pop("needs", None)
        if "session_id" in (case.path_parameters or {}) or isinstance(case.body, list):
            task.pop("session_id", None)  # the path says it, or all tasks of a batch must
    if isinstance(case.body, dict) and "source" in case.body:
        case.body["source"] = FLOW  # what a workflow is, no schema says
        case.body.pop("inputs", None)
    verb = case.operation.label.rpartition("/")[2]
    if verb in OF_RUNNING:
        case.path_parameters["task_id"] = os.environ["SCHEMA_TASK"]
    if verb in UNGUESSED and isinstance(case.body, dict):
        case.body.pop(UNGUESSED[verb], None)
    case.body = _whole(case.body)


def _echo(spec: dict[str, Any]) -> None:
    """Make a program that would run one that prints what it is given; what is refused stays as it is."""
    command, argv = spec.get("command"), spec.get("argv")
    if isinstance(command, str) and command.strip() and "\0" not in command and len(command) < MOST:
        spec["command"] = f"echo {shlex.quote(command)}"
    if isinstance(argv, list) and argv and argv[0] and all(isinstance(each, str) for each in argv):
        spec["argv"] = ["echo", *argv]


def _possible(spec: dict[str, Any]) -> None:
    """Leave out what only this system knows: which agents there are, and whether it has cgroups and a sandbox."""
    if isinstance(spec.get("agent"), str):
        spec["agent"] = AGENT
        for of_others in ("max_turns", "allowed_tools"):
            spec.pop(of_others, None)
    if isinstance(spec.get("limits"), dict) and "operation" not in spec:
        for of_a_group in ("cpus", "memory_bytes", "processes"):
            spec["limits"].pop(of_a_group, None)
    if not FACTS.sandbox:
        spec.pop("sandbox", None)


def _whole(value: Any) -> Any:
    """JSON Schema counts 1.0 among the integers; agentd takes 1, as its document says in words."""
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
