"""Events of a session in words, one line each; a type that is not known here is shown as it came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from webui.rows import Row
from webui.words import cause_of, duration, size

#: What every event has, and a reader need not see again.
_FRAME = {"seq", "b", "session_id", "type", "at", "task_id", "crc", "agent", "key_hash", "body_hash"}


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


_SAY: dict[str, Callable[[Row], str]] = {
    "session.created": lambda event: "the session was made",
    "session.updated": _updated,
    "session.archived": lambda event: "archived" if event["archived"] else "brought back from the archive",
    "session.conversation": lambda event: f"its conversation with {event['agent']} is {event['conversation_id']}",
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
    "task.answered": lambda event: f"answered by {event['answered']['by']}: {event['answered']['answer']}",
    "task.awaiting": lambda event: "asks its user" if event["awaiting"] else "asks its user no longer",
    "task.stop_requested": lambda event: f"asked to stop: {cause_of(event) or 'no reason given'}",
    "task.finished": lambda event: cause_of(event) or "ended",
    "task.retried": _retried,
}
