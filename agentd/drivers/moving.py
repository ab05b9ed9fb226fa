"""Puts right what a CLI remembers of paths when its session was moved, as an import does.

It would not find its conversations otherwise.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import sys
from pathlib import Path

from agentd.drivers.writing import read, replace
from agentd.kinds.agents.known import PLACE
from agentd.kinds.agents.protocol import Column, Remembered

#: How long another process may hold a database, in seconds.
BUSY_S = 5.0


def put_right(home: Path, remembered: Remembered) -> None:
    """Replace where the session was by where it is, if it was moved since the home was last used.

    Raises:
        OSError: the home cannot be written.
    """
    session = str(home.parent.parent)
    kept = home / PLACE
    before = None
    with contextlib.suppress(OSError):
        before = read(kept).decode(errors="surrogateescape")
    if before == session:
        return
    if before:
        for column in remembered.columns:
            for database in sorted(home.glob(column.database)):
                if not _is_ours(database, home):
                    continue
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


def _is_ours(database: Path, home: Path) -> bool:
    """Whether no link leads to another place: a CLI in a sandbox may have made one."""
    return database.is_file() and database.resolve() == home.resolve() / database.relative_to(home)


def _rename(folder: Path, before: str, after: str) -> None:
    if folder.is_symlink() or not folder.is_dir():
        return
    for each in sorted(folder.iterdir()):
        new = folder / (after + each.name.removeprefix(before))
        if each.name.startswith(before) and not new.exists():
            each.rename(new)


def _dashed(path: str) -> str:
    return re.sub("[^a-zA-Z0-9]", "-", path)
