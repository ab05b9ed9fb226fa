"""What must be so after a daemon was killed or its disk failed, held against what its client was told."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

from agentd.store.check import check
from agentd.store.disk import RealDisk
from benchlib.processes import stat_of, until
from faultlib import on_disk
from faultlib.actor import ENDED, Actor
from faultlib.rig import PATIENCE_S, Rig

#: Tasks that can fail only because something else did, and the causes for that.
HARMLESS = ("first", "second", "behind", "short-0", "short-1", "short-2")
BROKEN_OFF = ("dependency_failed", "interrupted", "shutdown", "worker_lost")


def broken(actor: Actor) -> list[str]:
    """Start the daemon again, twice, and look: at its answers, at the files, at the processes. What does not hold."""
    wrong = list(actor.wrong)
    rig, data_dir = actor.rig, actor.rig.data_dir
    wrong += [f"before the restart: {each}" for each in on_disk.unsound(data_dir, stopped=False)]
    before = on_disk.journals(data_dir)
    rig.start()
    wrong += _at_once(actor)
    actor.gate.touch()
    until(lambda: not rig.get("/tasks?state=running&state=queued&state=waiting")["data"], PATIENCE_S)
    wrong += _told(actor)
    wrong += _marks(actor)
    wrong += on_disk.cut_silently(before, data_dir)
    shown = _shown(actor)
    wrong += _stopped(actor)
    wrong += [f"after the restart: {each}" for each in on_disk.unsound(data_dir, stopped=True)]
    found = check(RealDisk(), str(data_dir), repair=False).findings
    wrong += [
        f"check: {each}"
        for each in found
        if "half of a file" not in each.problem and "not a session" not in each.problem
    ]
    wrong += _agrees(actor, shown)
    files = on_disk.fingerprint(data_dir)
    rig.start()
    if _shown(actor) != shown:
        wrong.append("a second restart shows something else")
    wrong += _stopped(actor)
    wrong += [f"a second restart changed {name}" for name in _changed(files, on_disk.fingerprint(data_dir))]
    return wrong


def _changed(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _stopped(actor: Actor) -> Iterator[str]:
    if code := actor.rig.stop():
        yield f"a clean stop after the restart left with {code}"


def _at_once(actor: Actor) -> Iterator[str]:
    """The first answer of the new daemon is right already, and nothing of the old one runs."""
    rig = actor.rig
    for task in rig.get("/tasks?state=running&limit=1000")["data"]:
        if task["attempts"][-1]["boot_id"] != rig.agent["boot_id"]:
            yield f"{task['name']} is shown running, by a daemon that is dead"
    born = rig.agent["pid_started_at"]
    for pid in rig.leftovers():
        if (fields := stat_of(pid)) and int(fields[19]) < born:
            yield f"process {pid} outlived the daemon that started it"


def _sessions(rig: Rig) -> list[dict[str, Any]]:
    """Those archived, too."""
    lists = (rig.get(f"/sessions?limit=1000&sort=session_id&archived={each}")["data"] for each in ("false", "true"))
    return [row for rows in lists for row in rows]


def _shown(actor: Actor) -> Any:
    rig = actor.rig
    sessions = _sessions(rig)
    full = {row["session_id"]: rig.get(f"/sessions/{row['session_id']}") for row in sessions}
    history = {name: rig.get(f"/sessions/{name}/history?limit=1000")["data"] for name in full}
    return sessions, full, history


def _told(actor: Actor) -> Iterator[str]:
    """What was acknowledged is so; what was asked and not answered is so or not, and nothing else."""
    rig = actor.rig
    for session_id, belief in actor.sessions.items():
        answer = rig.request("GET", f"/sessions/{session_id}")
        title = answer.json["title"] if answer.status == 200 else None
        if title not in belief.values:
            yield f"session {session_id} is {title!r}; its client was told {belief}"
    for (session_id, path), content in actor.artifacts.items():
        answer = rig.request("GET", f"/sessions/{session_id}/artifacts/{path}")
        found = answer.body if answer.status == 200 else None
        if found not in content.values:
            yield f"artifact {path} is {found!r}; its client was told {content}"
    for task_id, known in list(actor.tasks.items()):
        yield from _task(actor, task_id, known)
    for name, (body, key) in actor.posted.items():
        if key is not None and actor.sessions[body["session_id"]].values != [None]:
            actor.wrong.clear()
            actor.again(name)
            yield from actor.wrong
    yield from _runs(actor)
    until(lambda: not rig.get("/tasks?state=running&state=queued&state=waiting")["data"], PATIENCE_S)
    rows = [row for row in rig.get("/tasks?limit=1000")["data"] if row.get("retry_of") is None]
    for session in _sessions(rig):
        rows += [
            row
            for row in rig.get(f"/sessions/{session['session_id']}/history?limit=1000")["data"]
            if row["task_id"] not in {each["task_id"] for each in rows} and row.get("retry_of") is None
        ]
    cancelled = {row["task_id"] for row in rows if row["state"] == "cancelled"}
    for row in rows:
        if row["parent_id"] in cancelled and row["state"] not in ("cancelled", "completed"):
            yield f"{row['name']} is {row['state']}, and the task that submitted it was cancelled"
    for name, count in Counter(row["name"] for row in rows).items():
        if count > 1:
            yield f"there are {count} tasks {name}, of one that was asked for"


def _runs(actor: Actor) -> Iterator[str]:
    """Runs that were acknowledged are there and come to an end; one that was seen to end stays as it was."""
    rig = actor.rig
    for run_id, known in actor.runs.items():
        path = f"/sessions/{known['session_id']}/workflows/{run_id}"
        answer = rig.request("GET", path)
        if answer.status == 404:
            yield f"run {run_id} was acknowledged and is gone"
            continue
        run = until(lambda path=path: (found := rig.get(path))["state"] != "running" and found, PATIENCE_S)  # type: ignore[misc]
        if known["state"] != "running" and run != known:
            yield f"run {run_id} was seen as {known} and is {run}"
        if run["state"] not in ("completed", "interrupted"):
            yield f"run {run_id} ended {run['state']}: {run}"
        for step in run["steps"]:
            if len(step["tasks"]) > 1:
                yield f"step {step['id']} of {run_id} was submitted {len(step['tasks'])} times"


def _task(actor: Actor, task_id: str, known: dict[str, Any]) -> Iterator[str]:
    rig = actor.rig
    answer = rig.request("GET", f"/tasks/{task_id}")
    if answer.status == 404:
        if task_id not in actor.prunable and None not in actor.sessions[known["session_id"]].values:
            yield f"{known['name']} was acknowledged and is gone"
        return
    task = answer.json
    if task["state"] not in ENDED or (task["cause"] is None and task["state"] != "completed"):
        yield f"{known['name']} is {task['state']} with cause {task['cause']}"
    if task["awaiting"] is not None:
        yield f"{known['name']} has ended and asks {task['awaiting']}"
    if known["state"] in ENDED and any(
        task[field] != known[field] for field in ("state", "cause", "attempts", "result")
    ):
        yield f"{known['name']} was shown {known['state']} and is {task['state']}, or differs: {known} {task}"
    if task_id in actor.cancelled and task["state"] != "cancelled":
        yield f"the cancellation of {known['name']} was acknowledged; it is {task['state']}"
    if task["state"] == "failed" and task["name"] in HARMLESS and task["cause"]["code"] not in BROKEN_OFF:
        yield f"{known['name']} failed by {task['cause']}"
    output = rig.request("GET", f"/tasks/{task_id}/output")
    if task_id not in actor.prunable and not output.body.startswith(actor.output.get(task_id, b"")):
        yield f"output of {known['name']} that was seen is gone: {output.body!r}"


def _marks(actor: Actor) -> Iterator[str]:
    """No attempt ran twice, nothing ran that the journal did not say was started, and what completed did run."""
    ran = Counter(actor.marks.read_text().split())
    yield from (f"{attempt} ran {count} times" for attempt, count in ran.items() if count > 1)
    started: set[str] = set()
    for session in on_disk.sessions(actor.rig.data_dir).values():
        records = session.journal.records
        started |= {f"{each['task_id']}.{each['attempt']}" for each in records if each["type"] == "task.started"}
        for task_id, task in session.life.tasks.items() if session.journal.whole else ():
            if task["state"] == "completed" and f"{task_id}.{task['attempt']}" not in ran:
                yield f"{task_id} is completed and never ran"
    gone = {name for name, belief in actor.sessions.items() if None in belief.values}
    for attempt in ran.keys() - started:
        known = actor.tasks.get(attempt.partition(".")[0])
        if known is not None and known["session_id"] not in gone and known["task_id"] not in actor.prunable:
            yield f"{attempt} of {known['name']} ran and no journal says that it was started"
    tasks = Counter(attempt.partition(".")[0] for attempt in ran)
    for task_id, count in tasks.items():
        known = actor.tasks.get(task_id)
        if known is not None and count > 1 and known["name"] not in ("flaky", "again"):
            yield f"{known['name']} ran {count} times, and nobody asked for that"


def _agrees(actor: Actor, shown: Any) -> Iterator[str]:
    """The files say what the API said."""
    _, sessions, _ = shown
    found = on_disk.sessions(actor.rig.data_dir)
    if found.keys() != sessions.keys():
        yield f"there are sessions {sorted(found)} on disk, the API showed {sorted(sessions)}"
    for name in found.keys() & sessions.keys():
        tasks = found[name].life.tasks
        for task in sessions[name]["tasks"]:
            if (said := tasks.get(task["task_id"])) is not None and said["state"] != task["state"]:
                yield f"the API showed {task['task_id']} {task['state']}, its journal says {said['state']}"
        metadata = json.loads((actor.rig.data_dir / "sessions" / name / "metadata.json").read_bytes())
        if metadata["title"] != sessions[name]["title"]:
            yield f"metadata.json of {name} has another title than the API"


def at_rest(rig: Rig) -> list[str]:
    """No error of the daemon's own is in its log."""
    lines = rig.log_text().splitlines()
    return [f"in the log: {line[:2000]}" for line in lines if "Traceback" in line or '"level":"critical"' in line]


def orphans(actor: Actor) -> list[int]:
    """What still runs of a rig that is over; it is ended."""
    left = actor.rig.leftovers()
    for pid in left:
        os.kill(pid, 9)
    return left
