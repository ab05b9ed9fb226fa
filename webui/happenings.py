"""Events of a session in words, one line each; a type that is not known here is shown as it came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from webui.rows import Row
from webui.words import cause_of, duration, size

#: What every event has, and a reader need not see again.
_FRAME = {"seq", "b", "session_id", "type", "at", "task_id", "crc", "agent", "key_hash", "body_hash"}
#: Characters of a question or an answer, and steps of a run, that a line has.
_ANSWER_SHOWN = 200
_STEPS_SHOWN = 5


class Happening(NamedTuple):
    """One event as a line: its time, the task it is about, and what it says of it."""

    seq: object
    at: object
    type: str
    task_id: str | None
    state: str | None  #: the state of a task that the event brought
    words: str
    rest: dict[str, Any]  #: the fields of an event whose type is not known


def happening(event: Row) -> Happening:
    """An event in words. Takes any shape: a field of another type is shown as it is."""
    kind = str(event["type"])
    say = _SAY.get(kind)
    task_id = event["task_id"]
    return Happening(
        seq=event["seq"],
        at=event["at"],
        type=kind,
        task_id=task_id if isinstance(task_id, str) else None,
        state=_state(kind, event),
        words=say(event) if say is not None else kind,
        rest={} if say is not None else {key: value for key, value in event.items() if key not in _FRAME},
    )


def _state(kind: str, event: Row) -> str | None:
    if kind == "task.created" and isinstance(event["task"], dict):
        return str(event["task"].get("state") or "") or None
    if kind == "task.finished" and event["state"]:
        return str(event["state"])
    return {"task.queued": "queued", "task.started": "running", "task.retried": "queued"}.get(kind)


def _updated(event: Row) -> str:
    changes = event["changes"]
    what = ", ".join(map(str, changes)) if isinstance(changes, dict) and changes else "the session"
    return f"{what} set" + (" by hand, in metadata.json" if event["source"] == "file" else "")


def _pruned(event: Row) -> str:
    tasks, outputs = (len(event[name]) if isinstance(event[name], list) else 0 for name in ("tasks", "outputs"))
    parts = [f"{count} {name}" for count, name in ((tasks, "finished tasks"), (outputs, "logs")) if count]
    freed = f" ({size(event['bytes'])})" if event["bytes"] else ""
    return f"retention removed {' and '.join(parts) or 'something'}{freed}"


def _started(event: Row) -> str:
    waited = duration(event["wait_s"])
    return f"attempt {event['attempt']} began on worker {event['worker_id']}" + (f" after {waited}" if waited else "")


def _progress(event: Row) -> str:
    done, failed = event["items_processed"], event["items_failed"]
    parts = [
        f"{event['progress']:g} %" if isinstance(event["progress"], int | float) else event["progress"],
        event["phase"],
        event["message"],
        f"{done} items done" if done is not None else None,
        f"{failed} items failed" if failed is not None else None,
    ]
    return " · ".join(str(part) for part in parts if part is not None) or "progress"


def _retried(event: Row) -> str:
    why = cause_of(event["end"])
    return "the attempt ended" + (f": {why}" if why else "") + "; another follows"


def _answered(event: Row) -> str:
    given = event["answered"]
    if not isinstance(given, Row):
        return "answered"
    return f"answered by {given['by']}: {str(given['answer'])[:_ANSWER_SHOWN]}"


def _asks(event: Row) -> str:
    given = event["awaiting"]
    if not isinstance(given, Row):
        return "asks its user something" if given else "asks its user no longer"
    return f"asks its user: {str(given['prompt'])[:_ANSWER_SHOWN]}"


def _run(event: Row) -> str:
    run = event["run"]
    name = run["name"] if isinstance(run, Row) else None
    return f"a run of the workflow {name or event['run_id']} was accepted"


def _run_ended(event: Row) -> str:
    where = event["where"] if isinstance(event["where"], list) else []
    at = f" at {', '.join(map(str, where[:_STEPS_SHOWN]))}" if where and event["state"] != "completed" else ""
    why = f": {event['reason']}" if event["reason"] else ""
    return f"the run {event['run_id']} {event['state'] or 'ended'}{at}{why}"


def _resumed(event: Row) -> str:
    again = event["again"] if isinstance(event["again"], list) else []
    steps = f" with {', '.join(map(str, again[:_STEPS_SHOWN]))}" if again else ""
    return f"the run {event['run_id']} goes on{steps}"


_SAY: dict[str, Callable[[Row], str]] = {
    "session.created": lambda event: "the session was made",
    "session.updated": _updated,
    "session.archived": lambda event: "archived" if event["archived"] else "brought back from the archive",
    "session.conversation": lambda event: f"its agent's conversation is {event['conversation_id']} from now on",
    "session.edit_refused": lambda event: (
        f"an edit of metadata.json was refused: {event['reason']}; the text is kept as {event['kept_as']}"
    ),
    "session.pruned": _pruned,
    "session.quarantined": lambda event: f"read-only from now on: {event['reason']}",
    "task.created": lambda event: "accepted",
    "task.queued": lambda event: "queued: its start time and what it needs have come",
    "task.started": _started,
    "task.spawned": lambda event: f"attempt {event['attempt']} runs as process {event['pid']}",
    "task.progress": _progress,
    "task.answered": _answered,
    "task.awaiting": _asks,
    "task.stop_requested": lambda event: f"asked to stop: {cause_of(event) or 'no reason given'}",
    "task.finished": lambda event: cause_of(event) or "ended",
    "task.retried": _retried,
    "run.created": _run,
    "run.step_ended": lambda event: f"the step {event['step']} of the run {event['run_id']} ended: {event['standing']}",
    "run.step_refused": lambda event: (
        f"the step {event['step']} of the run {event['run_id']} failed: {event['reason']}"
    ),
    "run.cancel_requested": lambda event: f"the run {event['run_id']} was asked to end",
    "run.resumed": _resumed,
    "run.ended": _run_ended,
}
