"""Lies told in files: each changes what a soak left so that one promise is broken, and the rest looks sound."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class Forger:
    """What a soak left, to be falsified: `data`, `ledger.jsonl` and `marks` under one directory."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.data = place / "data"

    def session(self, name: str = "pinned-0") -> Path:
        """A session's directory."""
        return self.data / "sessions" / name

    # ------------------------------------------------------------------ the journal, with sound CRCs

    def records(self, session: Path) -> list[Json]:
        """Every record, oldest first."""
        paths = sorted((session / "history").glob("events-*.jsonl"))
        return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()[1:]]

    def rewrite(self, session: Path, records: list[Json]) -> None:
        """Make these the journal, numbered and chained as they should be, and let agentd make the views of it."""
        for path in (session / "history").iterdir():
            path.unlink()
        head = {"format": 1, "session_id": session.name, "segment": 1, "first_seq": 1, "prev_crc": "00000000"}
        line, _ = _chained(head, 0)
        lines, crc = [line], 0
        for seq, record in enumerate(records, 1):
            line, crc = _chained({**record, "seq": seq, "b": seq}, crc)
            lines.append(line)
        journal = session / "history" / "events-000001.jsonl"
        journal.write_bytes(b"".join(lines))
        journal.chmod(0o600)
        (session / "tasks.json").unlink()
        self.repair()

    def repair(self) -> None:
        """`agentd check --repair`: the views are those of the journal again."""
        command = [sys.executable, "-m", "agentd.cli.main", "check", "--repair", "--data-dir", str(self.data)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode in (0, 1), done.stderr

    def change(self, chosen: Callable[[Json], bool], change: Callable[[Json], object], name: str = "pinned-0") -> None:
        """Change the first event of a session that is chosen."""
        session = self.session(name)
        records = self.records(session)
        change(next(each for each in records if chosen(each)))
        self.rewrite(session, records)

    # ------------------------------------------------------------------ the other files

    def told(self, what: str) -> list[Json]:
        """Lines of the ledger about something."""
        lines = (json.loads(line) for line in (self.place / "ledger.jsonl").read_text().splitlines())
        return [line for line in lines if line["told"] == what]

    def ledger(self, change: Callable[[Json], object]) -> None:
        """Change lines of the ledger."""
        path = self.place / "ledger.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            change(line)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def marks(self, change: Callable[[list[str]], list[str]]) -> None:
        """Change the tasks' marks."""
        path = self.place / "marks"
        path.write_text("".join(line + "\n" for line in change(path.read_text().splitlines())))

    def snapshot(self, session: Path, old: bytes, new: bytes) -> None:
        """Change tasks.json, with a CRC that fits."""
        path = session / "tasks.json"
        data = path.read_bytes()
        body = data[: data.rindex(b'"crc":')].replace(old, new, 1)
        assert body != data[: len(body)]
        path.write_bytes(body + b'"crc":"%08x"}\n' % zlib.crc32(body))

    def record(self, session: Path, state: str = "completed") -> Path:
        """The first record of a task that ended so."""
        return next(path for path in sorted((session / "history").iterdir()) if f"-{state}-" in path.name)

    def log(self) -> Path:
        """A log of some size whose end was told and whose bytes are known."""
        for told in self.told("task"):
            path = self.session(told["session_id"]) / "output" / f"{told['task_id']}.1.log"
            if told["expect"].get("output", [0])[0] > 100 and path.exists() and self._completed_at_once(path):
                return path
        raise AssertionError("no such log")

    def _completed_at_once(self, log: Path) -> bool:
        task_id = log.name.partition(".")[0]
        found = list((log.parents[1] / "history").glob(f"*-completed-{task_id}.json"))
        return bool(found) and json.loads(found[0].read_bytes())["attempt"] == 1


def _chained(record: Json, crc: int) -> tuple[bytes, int]:
    first = {name: record[name] for name in ("seq", "b", "session_id", "type") if name in record}
    body = json.dumps({**first, **{k: v for k, v in record.items() if k != "crc"}}, separators=(",", ":"))
    data = body[:-1].encode()
    crc = zlib.crc32(data, crc)
    return data + b',"crc":"%08x"}\n' % crc, crc


def _finished(record: Json, state: str = "completed") -> bool:
    return bool(record["type"] == "task.finished" and record["state"] == state)


def _an_acknowledged_task_is_not_there(forger: Forger) -> str:
    session = forger.session()
    records = forger.records(session)
    lost = next(each["task_id"] for each in forger.told("task") if each["session_id"] == session.name)
    forger.rewrite(session, [each for each in records if each.get("task_id") != lost])
    return f"{lost} was acknowledged and is not there"


def _the_last_event_is_not_there(forger: Forger) -> str:
    session = forger.session()
    forger.rewrite(session, forger.records(session)[:-1])
    return "was seen as|was streamed and is not in the journal"


def _a_session_is_not_there(forger: Forger) -> str:
    os.rename(forger.session("emptied-0"), forger.place / "elsewhere")
    return "session emptied-0 was acknowledged and is not there"


def _a_task_ended_otherwise_than_was_seen(forger: Forger) -> str:
    cause = {"code": "exit_code", "message": "exited with code 9", "exit_code": 9}

    def lie(record: Json) -> None:
        record["state"] = "failed"
        record["cause"] = record["end"]["cause"] = cause

    forger.change(_finished, lie)
    return "was seen as"


def _a_task_was_interrupted_and_no_daemon_died(forger: Forger) -> str:
    records = forger.records(forger.session())
    task_id = next(each["task_id"] for each in records if _finished(each))
    boots = {each["boot_id"] for each in records if each["type"] == "task.started" and each["task_id"] == task_id}

    def untell(told: Json) -> None:  # it may have been killed later
        if told["told"] == "killed" and told["boot_id"] in boots:
            told["boot_id"] = "another"

    def lie(record: Json) -> None:
        record["state"] = "failed"
        record["cause"] = record["end"]["cause"] = {"code": "interrupted", "message": "the daemon died"}

    forger.ledger(untell)
    forger.change(lambda r: _finished(r) and r["task_id"] == task_id, lie)
    return rf"{task_id}\.\d+ ended interrupted: its daemon was not killed"


def _nobody_cancelled(forger: Forger) -> str:
    def lie(record: Json) -> None:
        record["state"] = "cancelled"
        record["cause"] = record["end"]["cause"] = {"code": "cancelled_by_user", "message": "somebody did"}

    asked = {each["task_id"] for each in forger.told("cancelling")}
    forger.change(lambda r: _finished(r) and r["task_id"] not in asked, lie)
    return "nobody cancelled it"


def _an_end_has_no_reason(forger: Forger) -> str:
    forger.change(_finished, lambda r: r["cause"].update(message=" "))
    return "without a sentence"


def _a_state_has_the_cause_of_another(forger: Forger) -> str:
    forger.change(_finished, lambda r: r["cause"].update(code="timeout"))
    return "ended completed with cause timeout"


def _an_attempt_is_skipped(forger: Forger) -> str:
    forger.change(lambda r: r["type"] == "task.started", lambda r: r.update(attempt=2))
    return "attempt 2 of .* followed 0"


def _a_task_was_left_running(forger: Forger) -> str:
    session = forger.session()
    records = forger.records(session)
    last = max(n for n, each in enumerate(records) if each["type"] == "task.started")
    task_id = records[last]["task_id"]
    forger.rewrite(session, [*records[: last + 1], *(r for r in records[last + 1 :] if r.get("task_id") != task_id)])
    return f"{task_id} is running, and no daemon is"


def _one_request_made_two_tasks(forger: Forger) -> str:
    session = forger.session()
    records = forger.records(session)
    created = next(each for each in records if each["type"] == "task.created")
    other = json.loads(json.dumps(created).replace(created["task_id"], "zzzzzzzzzzzzzz"))
    other.pop("batch", None)
    forger.rewrite(session, [*records, other])
    return "made 2 tasks"


def _a_request_was_cut_in_two(forger: Forger) -> str:
    session = forger.session()
    records = forger.records(session)
    alone = (n for n, record in enumerate(records) if record["type"] == "task.created" and "batch" not in record)
    number = next(n for n in alone if [each["type"] for each in records[n + 1 : n + 2]] != ["task.created"])
    records[number]["batch"] = 2
    forger.rewrite(session, records)
    return "of one request 1 tasks are missing|and of its last request 1 tasks are missing"


def _a_result_is_another(forger: Forger) -> str:
    task_id = json.loads(forger.record(forger.session()).read_bytes())["task_id"]

    def lie(told: Json) -> None:
        if told.get("task_id") == task_id and told["told"] == "task":
            told["expect"]["result"] = {"nonce": "another"}

    forger.ledger(lie)
    return f"{task_id} completed: with the result"


def _progress_was_lost(forger: Forger) -> str:
    record = json.loads(forger.record(forger.session()).read_bytes())
    facts = {"task_id": record["task_id"], "session_id": record["session_id"], "seq": record["seq"]}
    with (forger.place / "ledger.jsonl").open("a") as ledger:
        ledger.write(json.dumps({"told": "progress", **facts, "items_processed": 99}) + "\n")
    return f"{record['task_id']} acknowledged 99 items"


def _an_attempt_ran_twice(forger: Forger) -> str:
    forger.marks(lambda lines: [*lines, lines[len(lines) // 2]])
    return "ran 2 times"


def _an_attempt_ran_that_nobody_recorded(forger: Forger) -> str:
    record = json.loads(forger.record(forger.session()).read_bytes())
    line = f"{record['spec']['env']['SOAK_NONCE']} {record['task_id']} {record['attempt'] + 1} begin"
    forger.marks(lambda lines: [*lines, line])
    return f"attempt {record['attempt'] + 1} of {record['task_id']} ran"


def _what_completed_never_ran(forger: Forger) -> str:
    task_id = json.loads(forger.record(forger.session()).read_bytes())["task_id"]
    forger.marks(lambda lines: [line for line in lines if task_id not in line])
    return f"{task_id} is completed and left no mark"


def _a_byte_of_the_journal_flipped(forger: Forger) -> str:
    path = sorted((forger.session() / "history").glob("events-*.jsonl"))[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return "does not fit its CRC|has no sound header|does not continue"


def _a_line_of_the_journal_is_gone(forger: Forger) -> str:
    path = sorted((forger.session() / "history").glob("events-*.jsonl"))[0]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5] + lines[6:]))
    return "does not fit its CRC"


def _the_journal_ends_in_half_a_record(forger: Forger) -> str:
    with sorted((forger.session() / "history").glob("events-*.jsonl"))[-1].open("ab") as journal:
        journal.write(b'{"seq":99')
    return "ends in half a record"


def _tasks_json_shows_another_state(forger: Forger) -> str:
    forger.snapshot(forger.session(), b'"state":"completed"', b'"state":"cancelled"')
    return "otherwise than the journal"


def _tasks_json_counts_wrongly(forger: Forger) -> str:
    forger.snapshot(forger.session(), b'"counts":{', b'"counts":{"waiting":1,')
    return "tasks.json counts"


def _tasks_json_was_changed(forger: Forger) -> str:
    path = forger.session() / "tasks.json"
    path.write_bytes(path.read_bytes().replace(b'"exit_code":0', b'"exit_code":1', 1))
    return "tasks.json does not fit its CRC"


def _metadata_is_another_session(forger: Forger) -> str:
    path = forger.session() / "metadata.json"
    path.write_text(path.read_text().replace('"pinned": true', '"pinned": false'))
    return "metadata.json is not the session"


def _a_record_is_missing(forger: Forger) -> str:
    forger.record(forger.session()).unlink()
    return "has no record"


def _a_record_was_edited(forger: Forger) -> str:
    path = forger.record(forger.session())
    path.write_text(path.read_text().replace('"priority":0', '"priority":1'))
    return "is not the task of the journal"


def _a_record_was_renamed(forger: Forger) -> str:
    path = forger.record(forger.session())
    path.rename(path.with_name(path.name.replace("-completed-", "-failed-")))
    return "is called otherwise than its end"


def _a_record_of_nothing(forger: Forger) -> str:
    path = forger.record(forger.session())
    other = path.with_name("000003-completed-zzzzzzzzzzzzzz.json")
    other.write_bytes(path.read_bytes())
    other.chmod(0o600)
    return "is the record of a task that did not end"


def _a_log_lost_its_end(forger: Forger) -> str:
    path = forger.log()
    os.truncate(path, path.stat().st_size - 1)
    return "its record says"


def _a_log_is_gone(forger: Forger) -> str:
    path = forger.log()
    path.unlink()
    path.with_suffix(".idx").unlink()
    return "is not there, and had"


def _a_log_says_something_else(forger: Forger) -> str:
    path = forger.log()
    path.write_bytes(path.read_bytes()[:-2] + b"?\n")
    return "bytes of output, which are not the"


def _an_index_lost_a_line(forger: Forger) -> str:
    path = forger.log().with_suffix(".idx")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    return r"idx (lists|has)"


def _others_may_read(forger: Forger) -> str:
    forger.record(forger.session()).chmod(0o644)
    return "has mode 0644"


def _a_link_lies_among_the_records(forger: Forger) -> str:
    path = forger.record(forger.session())
    path.rename(forger.place / "moved")
    path.symlink_to(forger.place / "moved")
    return "is neither a file nor a directory"


def _a_session_was_left_half_made(forger: Forger) -> str:
    (forger.data / "sessions" / ".new-x").mkdir(mode=0o700)
    return "was left half made"


def _a_streamed_event_is_another(forger: Forger) -> str:
    def lie(told: Json) -> None:
        if told["told"] == "events":
            told["crcs"][0] = "00000000"

    forger.ledger(lie)
    return "was streamed and is not in the journal"


#: By what they claim; each returns what the proof must say of it.
LIES: dict[str, Callable[[Forger], str]] = {
    name.removeprefix("_").replace("_", " "): lie
    for name, lie in list(globals().items())
    if name.startswith(
        ("_a_", "_an_", "_the_", "_tasks_", "_nobody", "_one", "_progress", "_what", "_metadata", "_others")
    )
}
