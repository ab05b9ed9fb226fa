"""Puts right what a CLI remembers of paths when its session was moved, as an import does.

It would not find its conversations otherwise.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import sys
from pathlib import Path

from agentd.drivers.writing import replace
from agentd.kinds.agents.protocol import Column, Remembered

_PLACE = "agentd-place.txt"
#: How long another process may hold a database, in seconds.
BUSY_S = 5.0


def put_right(home: Path, remembered: Remembered) -> None:
    """Replace where the session was by where it is, if it was moved since the home was last used.

    Raises:
        OSError: the home cannot be written.
    """
    session = str(home.parent.parent)
    kept = home / _PLACE
    before = None
    with contextlib.suppress(FileNotFoundError):
        before = kept.read_text(encoding="utf-8", errors="surrogateescape")
    if before == session:
        return
    if before:
        for column in remembered.columns:
            for database in sorted(home.glob(column.database)):
                _rewrite(database, column, before, session)
        if remembered.folder is not None:
            _rename(home / remembered.folder, _dashed(before), _dashed(session))
    replace(kept, session)


def _rewrite(database: Path, column: Column, before: str, after: str) -> None:
    table, name = column.table, column.column
    change = f"UPDATE {table} SET {name} = ? || substr({name}, ?) WHERE {name} = ? OR substr({name}, 1, ?) = ?"  # noqa: S608 - both names are ours
    given = (after, len(before) + 1, before, len(before) + 1, f"{before}/")
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=BUSY_S)) as connection, connection:
            connection.execute(change, given)
    except sqlite3.Error as error:  # another version of the CLI keeps it elsewhere
        sys.stderr.write(f"agentd: {database.name} still has the session's former path: {error}\n")


def _rename(folder: Path, before: str, after: str) -> None:
    if not folder.is_dir():
        return
    for each in sorted(folder.iterdir()):
        new = folder / (after + each.name.removeprefix(before))
        if each.name.startswith(before) and not new.exists():
            each.rename(new)


def _dashed(path: str) -> str:
    return re.sub("[^a-zA-Z0-9]", "-", path)
