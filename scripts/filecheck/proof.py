"""All of it together: a data directory, and what the driver and the tasks wrote beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from filecheck import journal
from filecheck.told import Marks, Told, survivors
from filecheck.views import Session, mode


class Proof(NamedTuple):
    """What was compared, and what is wrong."""

    sessions: int
    events: int
    tasks: int
    records: int
    outputs: int
    told: int  #: lines of the driver's ledger
    marks: int
    wrong: list[str]

    def counted(self) -> str:
        """What was looked at, in words."""
        text = (
            f"{self.sessions:,} sessions, {self.events:,} events, {self.tasks:,} tasks, {self.records:,} records, "
            f"{self.outputs:,} outputs"
        )
        return text + (f"; against {self.told:,} things told and {self.marks:,} marks" if self.told else "")


def prove(
    data: Path, ledger: Path | None = None, marks: Path | None = None, mark: str | None = None, *, stopped: bool = True
) -> Proof:
    """Read everything and compare. Raises OSError where the files cannot be read."""
    wrong = _directory(data, stopped)
    sessions: dict[str, Session] = {}
    for path in sorted((data / "sessions").iterdir()):
        if path.name.startswith("."):
            wrong.append(f"sessions/{path.name} was left half made, or half removed")
            continue
        session = sessions[path.name] = Session(path, journal.read(path))
        session.check(stopped=stopped)
        wrong += [f"{path.name}: {each}" for each in session.wrong]
    told_lines = ledger.read_text().splitlines() if ledger else []
    mark_lines = marks.read_text().splitlines() if marks else []
    if ledger:
        wrong += Told(told_lines).compare(sessions)
    if marks:
        wrong += Marks(mark_lines).compare(sessions)
    if mark:
        wrong += survivors(mark)
    each = sessions.values()
    return Proof(
        sessions=len(sessions),
        events=sum(len(session.journal.records) for session in each),
        tasks=sum(len(session.life.tasks) for session in each),
        records=sum(session.records for session in each),
        outputs=sum(session.outputs for session in each),
        told=len(told_lines),
        marks=len(mark_lines),
        wrong=wrong,
    )


def _directory(data: Path, stopped: bool) -> list[str]:
    wrong = []
    if json.loads((data / "format.json").read_bytes()) != {"format": 1}:
        wrong.append("format.json is of another format")
    names = ("", "sessions", "quarantine", "format.json", "token", "tokens.json", *(() if stopped else ("agent.json",)))
    for name in names:
        if (data / name).exists():
            wrong += mode(data / name)
    return wrong
