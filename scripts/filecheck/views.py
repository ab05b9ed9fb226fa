"""The files of one session against its journal: snapshot, metadata, records, output, permissions."""

from __future__ import annotations

import json
import re
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filecheck.journal import Journal
from filecheck.life import TERMINAL, End, Life

Json = dict[str, Any]

#: What tasks do in these is theirs.
_OF_TASKS = ("workspace", "home", "artifacts")
_RECORD = re.compile(r"(\d{6,})-(completed|failed|timeout|cancelled)-([0-9a-z]+)\.json")
_UNLISTED = re.compile(r"the stream of (\d+) bytes of output is not known")
_OUTPUT = re.compile(r"([0-9a-z]+)\.(\d+)\.(log|idx|result\.json|handed)")


class Session:
    """One session: its journal, what that makes of it, and what its files say."""

    def __init__(self, directory: Path, journal: Journal) -> None:
        self.directory = directory
        self.journal = journal
        self.life = Life()
        self.wrong = [*journal.wrong]
        self.records = self.outputs = 0  #: how many were compared
        self._snapshot = self._read_snapshot()
        upto = self._snapshot["seq"] if self._snapshot else -1
        until = [record for record in journal.records if record["seq"] <= upto]
        if self._snapshot and not any("policy" in record.get("changes", ()) for record in until):
            self.life.most_kept = self._snapshot["session"]["policy"]["tasks_kept"]  # the beginning may be pruned
        for record in journal.records:
            self.life.apply(record)
            if record["seq"] == upto:
                self._compare_snapshot()
        self.wrong += self.life.wrong
        if self.life.owed:
            self.wrong.append(f"the journal ends, and of its last request {self.life.owed} tasks are missing")
        if upto > journal.seq or upto < (journal.records[0]["seq"] if journal.records else 0):
            self.wrong.append(f"tasks.json is of event {upto}, which the journal does not have")
        self.wrong += [f"{task_id} has events and no beginning" for task_id in self.life.partial]

    def check(self, *, stopped: bool) -> None:
        """Compare everything; `stopped` when the daemon was stopped, so that nothing may run or lag behind."""
        self._metadata()
        self._history(stopped)
        self._output()
        self.wrong += list(_modes(self.directory))
        if stopped:
            if self._snapshot and self._snapshot["seq"] != self.journal.seq:
                self.wrong.append(f"tasks.json was left at event {self._snapshot['seq']} of {self.journal.seq}")
            for task_id, task in self.life.tasks.items():
                if task["state"] == "running":
                    self.wrong.append(f"{task_id} is running, and no daemon is")

    # ------------------------------------------------------------------ tasks.json

    def _read_snapshot(self) -> Json | None:
        try:
            data = (self.directory / "tasks.json").read_bytes()
            body = data[: data.rindex(b'"crc":')]
            found: Json = json.loads(data)
            json.loads(data.partition(b",\n")[0] + b"}")
        except (OSError, ValueError) as error:
            self.wrong.append(f"tasks.json cannot be read: {error}")
            return None
        if data[len(body) :] != b'"crc":"%08x"}\n' % zlib.crc32(body):
            self.wrong.append("tasks.json does not fit its CRC")
        if found["session_id"] != self.directory.name or found["format"] != 1:
            self.wrong.append("tasks.json is another session's")
        return found

    def _compare_snapshot(self) -> None:
        """Called when `life` is as of the snapshot's event."""
        snapshot, life = self._snapshot, self.life
        assert snapshot is not None
        journal, end = snapshot["journal"], self.journal.ends[snapshot["seq"]]
        if (journal.get("file"), journal.get("offset"), journal.get("crc")) != end:
            self.wrong.append(f"tasks.json points to {journal}, its event ends at {end}")
        if life.session and {"usage": None} | snapshot["session"] != {"usage": None} | life.session:
            self.wrong.append(
                f"tasks.json shows another session than the journal: {_difference(snapshot['session'], life.session)}"
            )
        shown = {task["task_id"]: task for task in snapshot["tasks"]}
        there = {task_id: task for task_id, task in life.tasks.items() if task["state"] not in TERMINAL}
        there |= {task_id: life.tasks[task_id] for task_id in life.kept}
        for task_id in sorted((shown.keys() - there.keys()) | (there.keys() - shown.keys() - life.perhaps)):
            self.wrong.append(f"tasks.json {'shows' if task_id in shown else 'lacks'} {task_id}, unlike the journal")
        for task_id in shown.keys() & there.keys():
            if shown[task_id] != there[task_id]:
                difference = _difference(shown[task_id], there[task_id])
                self.wrong.append(f"tasks.json shows {task_id} otherwise than the journal: {difference}")
        counts: dict[str, int] = {}
        for task in snapshot["tasks"]:
            counts[task["state"]] = counts.get(task["state"], 0) + 1
        if counts != snapshot["counts"]:
            self.wrong.append(f"tasks.json counts {snapshot['counts']} and shows {counts}")
        self._compare_runs(snapshot)
        for key in snapshot["keys"]:
            if life.session and life.keys.get(key["key_hash"]) != (key["body_hash"], key["task_id"], key["seq"]):
                self.wrong.append(f"tasks.json has a key that no event made: {key}")

    def _compare_runs(self, snapshot: Json) -> None:
        shown = {run["run_id"]: run for run in snapshot.get("runs", ())}
        going_on = {run_id for run_id, run in shown.items() if run["state"] == "running"}
        if snapshot.get("live_runs", 0) != len(going_on):
            self.wrong.append(
                f"tasks.json counts {snapshot.get('live_runs')} runs that go on and shows {len(going_on)}"
            )
        if not self.life.session:
            return  # they may have begun before the journal that is kept
        there = self.life.runs.all
        for run_id in {run_id for run_id, run in there.items() if run["state"] == "running"} - shown.keys():
            self.wrong.append(f"tasks.json lacks run {run_id}, unlike the journal")
        for run_id, run in shown.items():
            if run_id not in there:
                self.wrong.append(f"tasks.json shows run {run_id}, unlike the journal")
            elif run != there[run_id]:
                difference = _difference(run, there[run_id])
                self.wrong.append(f"tasks.json shows run {run_id} otherwise than the journal: {difference}")

    # ------------------------------------------------------------------ metadata.json and history/

    def _metadata(self) -> None:
        try:
            found = json.loads((self.directory / "metadata.json").read_bytes())
        except (OSError, ValueError) as error:
            self.wrong.append(f"metadata.json cannot be read: {error}")
            return
        told = {"seq", "updated_at", "format", "usage"}  # as of the last change of the session itself, or not there
        session = self.life.session or (self._snapshot or {}).get("session", {})
        left = {name: value for name, value in found.items() if name not in told}
        if session and left != {name: value for name, value in session.items() if name not in told}:
            self.wrong.append(f"metadata.json is not the session of the journal: {_difference(left, session)}")

    def _history(self, stopped: bool) -> None:
        files: dict[str, tuple[int, str]] = {}
        for path in (self.directory / "history").iterdir():
            match = _RECORD.fullmatch(path.name)
            if match is None:
                if not path.name.startswith("events-"):
                    self.wrong.append(f"history/{path.name} is no file of a session")
                continue
            seq, state, task_id = int(match[1]), match[2], match[3]
            if task_id in files:
                self.wrong.append(f"{task_id} has two records")
            files[task_id] = (seq, path.name)
            end = self.life.ends.get(task_id)
            if end is None:
                if task_id not in self.life.pruned:
                    self.wrong.append(f"history/{path.name} is the record of a task that did not end")
                continue
            self.records += 1
            if (end.seq, end.task["state"]) != (seq, state):
                self.wrong.append(
                    f"history/{path.name} is called otherwise than its end: event {end.seq}, {end.task['state']}"
                )
            self._compare_record(path, end)
        upto = self.journal.seq if stopped or self._snapshot is None else self._snapshot["seq"]
        for task_id, end in self.life.ends.items():
            if task_id not in files and end.seq <= upto:
                self.wrong.append(f"{task_id} ended {end.task['state']} at event {end.seq} and has no record")

    def _compare_record(self, path: Path, end: End) -> None:
        try:
            found = json.loads(path.read_bytes())
        except ValueError as error:
            self.wrong.append(f"history/{path.name} cannot be read: {error}")
            return
        if found != end.task:
            self.wrong.append(f"history/{path.name} is not the task of the journal: {_difference(found, end.task)}")

    # ------------------------------------------------------------------ output/

    def _output(self) -> None:
        directory = self.directory / "output"
        found: dict[tuple[str, int], dict[str, Path]] = {}
        for path in directory.iterdir() if directory.exists() else ():
            match = _OUTPUT.fullmatch(path.name)
            if match is None:
                self.wrong.append(f"output/{path.name} is no file of a session")
                continue
            found.setdefault((match[1], int(match[2])), {})[match[3]] = path
        for (task_id, number), files in found.items():
            task = self.life.tasks.get(task_id)
            if task is None:
                if task_id not in self.life.pruned:
                    self.wrong.append(f"output/ has {sorted(files)} of {task_id}, which does not exist")
            elif number > task["attempt"]:
                self.wrong.append(f"output/ has {sorted(files)} of attempt {number} of {task_id}, which never started")
            elif f"{task_id}.{number}" not in self.life.pruned_outputs:  # what the disk keeps of those goes later
                self._compare_output(task["attempts"][number - 1], files, f"{task_id}.{number}")
        for task_id, task in self.life.tasks.items():
            for attempt in task["attempts"]:
                name = f"{task_id}.{attempt['n']}"
                if (
                    (task_id, attempt["n"]) not in found
                    and name not in self.life.pruned_outputs
                    and attempt["output_bytes"]
                ):
                    self.wrong.append(f"output/{name}.log is not there, and had {attempt['output_bytes']} bytes")

    def _compare_output(self, attempt: Json, files: dict[str, Path], name: str) -> None:
        """Where the worker told the end, log, index and record must agree to the byte; else the index may lag.

        Of bytes that the disk would not list, the cause says how many there are.
        """
        self.outputs += 1
        size = files["log"].stat().st_size if "log" in files else 0
        told = attempt["duration_s"] is not None
        listed = 0
        said = _UNLISTED.search((attempt["cause"] or {}).get("message", ""))
        unlisted = int(said[1]) if said else 0
        if "idx" in files:
            *lines, rest = files["idx"].read_bytes().split(b"\n")
            if rest and told and not unlisted:
                self.wrong.append(f"output/{name}.idx ends in half a line")
            for line in lines:
                piece = json.loads(line)
                if "lost" in piece:
                    self.wrong.append(f"output/{name}.idx says that {piece['lost']} bytes were lost")
                elif piece["o"] != listed or piece["n"] <= 0 or piece["s"] not in ("out", "err"):
                    self.wrong.append(f"output/{name}.idx has {piece} where byte {listed} is due")
                    return
                else:
                    listed += piece["n"]
        if listed > size or (told and listed + unlisted != size):
            self.wrong.append(f"output/{name}.idx lists {listed} bytes, the log has {size}")
        if told and attempt["output_bytes"] != size:
            self.wrong.append(f"output/{name}.log has {size} bytes, its record says {attempt['output_bytes']}")


def _modes(directory: Path) -> Iterator[str]:
    """Files are 0600, directories 0700, and nothing is a link; what tasks made themselves is passed over."""
    for path in [directory, *directory.iterdir()]:
        if path.name in _OF_TASKS:
            continue
        yield from mode(path)
        if path.is_dir() and path != directory:
            for each in path.iterdir():
                if not each.name.endswith((".result.json", ".left", ".handed")):  # made by the task
                    yield from mode(each)


def mode(path: Path) -> Iterator[str]:
    """What is wrong with the permissions of a file or directory."""
    found = path.lstat().st_mode
    want = 0o700 if stat.S_ISDIR(found) else 0o600
    if not (stat.S_ISDIR(found) or stat.S_ISREG(found)):
        yield f"{path.name} is neither a file nor a directory"
    elif stat.S_IMODE(found) != want:
        yield f"{path.name} has mode {stat.S_IMODE(found):04o}, not {want:04o}"
    if path.name.endswith(".tmp"):
        yield f"{path.name} is half of a file that was left"


def _difference(one: Json, other: Json) -> str:
    """Where two objects differ, in few words."""
    names = [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]
    shown = [f"{name}: {json.dumps(one.get(name))[:80]} and {json.dumps(other.get(name))[:80]}" for name in names[:3]]
    return "; ".join(shown)
