"""The check of one session: its journal, its views against it, its records, the names and modes of its files."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec

from agentd.errors import InvalidTransition, SessionReadOnly
from agentd.model.events import SessionPruned, TaskFinished, decoded
from agentd.model.reading import read
from agentd.model.task import Task
from agentd.model.upkeep import CheckFinding
from agentd.store import layout, quarantine, views
from agentd.store.disk import DIRECTORY_MODE, FILE_MODE, Disk
from agentd.store.examine import Examined, examined
from agentd.store.folder import Folder
from agentd.store.journal import Scan
from agentd.store.replay import Replay
from agentd.store.views import Snapshot, view_of

_TASKS_OWN = (layout.WORKSPACE, layout.HOME)  #: what tasks do in these is theirs


class Findings:
    """What was found so far."""

    def __init__(self, disk: Disk, repair: bool) -> None:
        self._disk = disk
        self._repair = repair
        self.found: list[CheckFinding] = []

    def add(self, session_id: str | None, file: str, problem: str, repaired: str | None = None) -> None:
        """One finding; `repaired` is what was done, if the check repairs."""
        done = repaired if self._repair else None
        self.found.append(CheckFinding(session_id=session_id, file=file, problem=problem, repaired=done))

    def mode(self, session_id: str | None, path: str, kind: str, *, shown: str | None = None) -> bool:
        """Whether the name is of the kind; its permissions are looked at too."""
        shown = shown or path.rsplit("/", 1)[1]
        entry = self._disk.entry(path)
        if entry.kind != kind:
            self.add(session_id, shown, f"is a {entry.kind}, not a {kind}")
            return False
        want = DIRECTORY_MODE if kind == "directory" else FILE_MODE
        if entry.mode != want:
            if self._repair:
                self._disk.chmod(path, want)
            self.add(session_id, shown, f"has mode {entry.mode:04o}, not {want:04o}", f"set to {want:04o}")
        return True


class SessionCheck:
    """The check of one session."""

    def __init__(self, disk: Disk, path: str, findings: Findings, repair: bool) -> None:
        self._disk = disk
        self._path = path
        self._session_id = layout.session_id_of(path)
        self._findings = findings
        self._repair = repair
        self._names: set[str] = set()
        self._unequal = False  #: the snapshot is sound and still not what the journal says
        self._ended: dict[str, tuple[int, str, int | None]] = {}  #: seq, record and CRC of the line of each ended task

    def run(self) -> int:
        """Check, and repair if asked; the number of events."""
        self._look_around()
        found = examined(self._disk, self._path)
        events = self._read_journal(found)
        self._check_views(found)
        wrong = self._wrong_records(found)
        if self._repair:
            self._mend(found, wrong)
        return events

    def _add(self, file: str, problem: str, repaired: str | None = None) -> None:
        self._findings.add(self._session_id, file, problem, repaired)

    # ------------------------------------------------------------------ names and modes

    def _look_around(self) -> None:
        disk = self._disk
        self._findings.mode(self._session_id, self._path, "directory", shown=".")
        for name in sorted(disk.listdir(self._path)):
            path = f"{self._path}/{name}"
            if name in layout.DIRECTORIES:
                if name in _TASKS_OWN:
                    if (kind := disk.entry(path).kind) != "directory":
                        self._add(name, f"is a {kind}, not a directory")
                else:
                    self._findings.mode(self._session_id, path, "directory")
            elif name in (layout.METADATA, layout.TASKS):
                self._findings.mode(self._session_id, path, "file")
            else:
                self._stranger(path, name)
        history = layout.history_dir(self._path)
        if disk.entry(history).kind != "directory":
            return  # `examined` says so
        for name in sorted(disk.listdir(history)):
            path, shown = f"{history}/{name}", f"{layout.HISTORY}/{name}"
            if layout.segment_number(name) is None and layout.parsed_record_name(name) is None:
                self._stranger(path, shown)
            elif self._findings.mode(self._session_id, path, "file", shown=shown):
                self._names.add(name)

    def _stranger(self, path: str, shown: str) -> None:
        if layout.is_temporary(shown.rsplit("/", 1)[-1]):
            if self._repair:
                self._disk.unlink(path)
            self._add(shown, "is half of a file that a crash left", "removed")
        elif not shown.startswith(f"{layout.METADATA}."):  # an edit that was refused is kept under such a name
            self._add(shown, "is not a file of agentd")

    # ------------------------------------------------------------------ the journal against the snapshot

    def _read_journal(self, found: Examined) -> int:
        """Every event from the first segment on."""
        scan, replay, events = Scan(self._disk, self._path), Replay(), 0
        whole = False
        for seq, line in scan:
            event = decoded(line)
            whole = whole or seq == 1
            if isinstance(event, TaskFinished):
                name = layout.record_name(seq, event.state, event.task_id)
                self._ended[event.task_id] = (seq, name, None)
            elif isinstance(event, SessionPruned):
                for task_id in event.tasks:
                    self._ended.pop(task_id, None)
            if whole:
                self._apply(replay, line, seq)
                if found.snapshot is not None and found.snapshot.seq == seq:
                    self._compare(found.snapshot, replay)
            events += 1
        for torn in filter(lambda each: each.data, scan.torn):  # an empty segment is one that was about to begin
            name = f"{layout.HISTORY}/{layout.segment_name(torn.segment)}"
            problem = f"{len(torn.data)} bytes from byte {torn.offset} on were never acknowledged"
            self._add(name, problem, "kept in quarantine and cut")
        return events

    def _apply(self, replay: Replay, line: bytes, seq: int) -> None:
        try:
            replay.apply(decoded(line), seq)
        except (InvalidTransition, msgspec.MsgspecError) as error:
            raise SessionReadOnly(f"event {seq} cannot be applied: {error}") from error
        for task_id, (ended_seq, task) in replay.ended.items():
            _, name, _ = self._ended[task_id]
            self._ended[task_id] = (ended_seq, name, zlib.crc32(msgspec.json.encode(task)))
        replay.ended.clear()

    def _compare(self, snapshot: Snapshot, replay: Replay) -> None:
        live = {task_id: task for task_id, task in replay.tasks.items() if not task.terminal}
        same = (
            snapshot.session == replay.session
            and {task.task_id: task for task in snapshot.tasks if not task.terminal} == live
            and all(replay.keys.get(key.key_hash) == key for key in snapshot.keys)
            and {run.run_id: run for run in snapshot.runs} == replay.runs
        )
        for task in snapshot.tasks:
            if task.terminal and task.task_id in self._ended:
                same = same and self._ended[task.task_id][2] == zlib.crc32(msgspec.json.encode(task))
        if not same:
            self._add(layout.TASKS, f"differs from the journal up to event {snapshot.seq}", "written again")
            self._unequal = True

    # ------------------------------------------------------------------ the views

    def _check_views(self, found: Examined) -> None:
        if found.bad_snapshot is not None:
            self._add(layout.TASKS, "is not as it was written", "kept in quarantine and written again")
        elif found.snapshot is None:
            self._add(layout.TASKS, "is missing or cannot be read", "written again")
        if found.metadata is None:
            self._add(layout.METADATA, "is missing or cannot be read", "written again")
        elif found.edited:
            try:
                views.read_metadata(found.metadata)
            except ValueError as error:
                self._add(layout.METADATA, f"cannot be used: {error}", "kept in quarantine and written again")
            else:
                self._add(
                    layout.METADATA, "was edited by hand; the daemon takes the edit in when it serves the session"
                )

    def _wrong_records(self, found: Examined) -> set[str]:
        """Records that are missing or differ; those of tasks that ended after the snapshot may be missing."""
        upto = found.snapshot.seq if found.snapshot is not None else 0
        wrong = set()
        for seq, name, crc in self._ended.values():
            shown = f"{layout.HISTORY}/{name}"
            if name not in self._names:
                if seq <= upto:
                    self._add(shown, "is missing", "written again" if crc is not None else None)
                    wrong.add(name)
            elif crc is not None:
                data = self._disk.read(f"{self._path}/{shown}")
                if not _tells(data, crc):
                    self._add(shown, "differs from the journal", "kept in quarantine and written again")
                    wrong.add(name)
        return wrong

    # ------------------------------------------------------------------ repair

    def _mend(self, found: Examined, wrong: set[str]) -> None:
        if self._unequal:
            # It has a sound CRC and yet is not what the journal says: the journal is the truth.
            data = self._disk.read(layout.tasks_path(self._path))
            quarantine.keep(self._disk, self._path, layout.TASKS, 0, data)
            self._disk.unlink(layout.tasks_path(self._path))
            found = examined(self._disk, self._path)
        unusable = found.metadata is None
        if found.metadata is not None and found.edited:
            try:
                views.read_metadata(found.metadata)
            except ValueError:
                unusable = True
                quarantine.keep(self._disk, self._path, layout.METADATA, 0, found.metadata)
        if wrong:
            self._rewrite(wrong)
        folder, loaded = Folder.open(self._disk, self._path)
        try:
            if unusable and found.metadata is not None:
                folder.ours[found.metadata] = loaded.session  # it is in quarantine
            if loaded.stale or unusable:
                folder.write_views(view_of(found.replay, loaded.position, metadata_changed=unusable))
        finally:
            folder.close()

    def _rewrite(self, names: set[str]) -> None:
        replay = Replay()
        for seq, line in Scan(self._disk, self._path):
            if replay.seq == 0 and seq != 1:
                return  # the tasks began before the journal that is kept
            replay.apply(decoded(line), seq)
            for task_id, (ended_seq, task) in replay.ended.items():
                name = layout.record_name(ended_seq, task.state, task_id)
                if name not in names:
                    continue
                path = layout.record_path(self._path, ended_seq, task.state, task_id)
                if self._disk.exists(path):
                    quarantine.keep(self._disk, self._path, name, 0, self._disk.read(path))
                views.write_record(self._disk, self._path, ended_seq, task.state, task_id, msgspec.json.encode(task))
            replay.ended.clear()


def _tells(record: bytes, crc: int) -> bool:
    """Whether the record is of the task with this CRC: word for word, or as a version wrote it that said less."""
    if zlib.crc32(record.removesuffix(b"\n")) == crc:
        return True
    try:
        task, said = read(record, Task), read(record, dict[str, Any])
    except msgspec.MsgspecError:
        return False
    whole = msgspec.json.encode(task)
    return zlib.crc32(whole) == crc and _within(said, msgspec.json.decode(whole))


def _within(said: Any, whole: Any) -> bool:
    """Whether all that is said is so: a name that nobody knows is none that an earlier version wrote."""
    if isinstance(said, dict) and isinstance(whole, dict):
        return all(name in whole and _within(value, whole[name]) for name, value in said.items())
    if isinstance(said, list) and isinstance(whole, list):
        return len(said) == len(whole) and all(map(_within, said, whole))
    return bool(said == whole)
