"""Parsers of archives: what an import is given, and what somebody packed so that every sum fits."""

from __future__ import annotations

import contextlib
import os
import shutil
from functools import cache
from pathlib import Path

from agentd.errors import AgentdError, Invalid
from agentd.kinds.agents.known import goes_along
from agentd.store import layout
from agentd.store.archive import Packer
from agentd.store.disk import RealDisk
from agentd.store.folder import Folder
from agentd.store.importing import Import
from faultlib.parsed_files import SESSION, TASK, opened_files
from faultlib.parser_table import DEEP, parser, place

AT = "2026-01-02T03:04:05.678901Z"
MOST = 16 << 20
_MORE = {
    f"{layout.OUTPUT}/{TASK}.1.log": b"out\n",
    f"{layout.OUTPUT}/{TASK}.1.idx": b'{"o":0,"n":4,"s":"out","t":"x"}\n',
    f"{layout.ARTIFACTS}/sub/a": b"x",
}


def _packed(files: dict[str, bytes]) -> bytes:
    packer = Packer(SESSION, 9)
    members = [b"".join(packer.member(path, len(data), iter((data,)))) for path, data in files.items()]
    return b"".join([*members, *packer.end()])


@cache
def _sessions() -> Path:
    (sessions := place() / "sessions").mkdir(mode=0o700)
    (place() / layout.QUARANTINE).mkdir(mode=0o700)
    return sessions


def _taken(text: bytes) -> None:
    """Import it: it is refused and leaves nothing, or it is a session that can be opened and holds files alone."""
    sessions = _sessions()
    try:
        with Import(RealDisk(), str(sessions), SESSION, MOST, goes_along) as building:
            for start in range(0, len(text), 700):
                building.feed(text[start : start + 700])
            building.finish(AT)
    except AgentdError:
        assert os.listdir(sessions) == [], "something of it was kept"
        return
    try:
        folder, _ = Folder.open(RealDisk(), str(sessions / SESSION))
        folder.close()
        assert all(each.is_dir() or (each.is_file() and not each.is_symlink()) for each in sessions.rglob("*"))
    finally:
        shutil.rmtree(sessions / SESSION)


@parser(_packed({**opened_files(), **_MORE}), b"\0" * 1024)
def archive(text: bytes) -> None:
    """An archive as it comes."""
    _taken(text)


@parser(b"0/output/x\n", b"1" + opened_files()[layout.TASKS], b"2" + opened_files()[layout.METADATA], b"3" + DEEP)
def archive_packed(text: bytes) -> None:
    """One of its files with another content, or another file beside them; its manifest fits what it has."""
    files = {**opened_files(), **_MORE}
    which, content = text[:1], text[1:]
    names = sorted(files)
    if which.isdigit():
        files[names[int(which) % len(names)]] = content
    else:
        path, _, data = content.partition(b"\n")
        files[path.decode("utf-8", "replace")] = data
    with contextlib.suppress(Invalid, UnicodeEncodeError):
        packed = _packed(files)
        _taken(packed)
