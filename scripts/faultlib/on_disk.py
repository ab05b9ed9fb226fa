"""A data directory as its files alone tell it, by the independent reader of `scripts/check_files`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from filecheck import journal
from filecheck.views import Session

#: What a crash may leave: halves of files; and what a full disk costs and says.
ALLOWED = ("is half of a file that was left", ".tmp is no file", "bytes were lost")


def sessions(data_dir: Path) -> dict[str, Session]:
    """The sessions, those half made or half deleted left out."""
    directory = data_dir / "sessions"
    paths = sorted(directory.iterdir()) if directory.is_dir() else []
    return {path.name: Session(path, journal.read(path)) for path in paths if not path.name.startswith(".")}


def unsound(data_dir: Path, *, stopped: bool) -> Iterator[str]:
    """What does not fit.

    Before a recovery (not `stopped`) a journal may end in what was never acknowledged, and an edit of metadata.json by
    hand may wait to be taken in.
    """
    for name, session in sessions(data_dir).items():
        session.check(stopped=stopped)
        torn = () if stopped else session.journal.wrong
        passing = ALLOWED if stopped else (*ALLOWED, "metadata.json is not the session of the journal")
        for each in session.wrong:
            if each not in torn and not any(text in each for text in passing):
                yield f"{name}: {each}"


def fingerprint(data_dir: Path) -> dict[str, str]:
    """Every file of the sessions and its content."""
    return {
        str(path.relative_to(data_dir)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((data_dir / "sessions").rglob("*"))
        if path.is_file()
    }


def journals(data_dir: Path) -> dict[Path, bytes]:
    """The bytes of every journal."""
    return {path: path.read_bytes() for path in (data_dir / "sessions").glob("[!.]*/history/events-*.jsonl")}


def cut_silently(before: dict[Path, bytes], data_dir: Path) -> Iterator[str]:
    """Bytes that journals had and have no more, and of which quarantine holds no copy."""
    kept = [path.read_bytes() for path in (data_dir / "quarantine").glob("*") if path.is_file()]
    for path, data in before.items():
        now = path.read_bytes() if path.exists() else b""
        if now.startswith(data):  # also one that was empty, and is gone
            continue
        if not path.parent.exists():  # its session was deleted
            continue
        same = next((at for at, (one, other) in enumerate(zip(data, now, strict=False)) if one != other), len(now))
        # The copy may begin before: what was cut and what was written in its place begin alike.
        if not any(each and data.endswith(each) and len(data) - len(each) <= same for each in kept):
            yield f"{path.name} of {path.parents[1].name} was cut from byte {same} without a copy in quarantine"
