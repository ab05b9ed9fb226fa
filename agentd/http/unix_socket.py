"""The unix socket: made for its owner alone, where nobody else can put another in its place."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from aiohttp import web

from agentd.errors import ConfigInvalid


async def listen(runner: web.BaseRunner, path: Path) -> None:
    """Serve on a socket of mode 0600 at the path; a dead one that this user left there makes room.

    Raises:
        ConfigInvalid: others may change the directory, or something else has the path.
        OSError: the system refuses.
    """
    folder = path.parent.stat()
    sticky = folder.st_mode & stat.S_ISVTX  # in such a directory nobody removes what is another's
    if folder.st_uid not in (os.geteuid(), 0) or (folder.st_mode & 0o022 and not sticky):
        raise ConfigInvalid(f"http.socket: others may replace what is in {path.parent}; use a directory of your own")
    _make_room(path)
    before = os.umask(0o177)  # aiohttp makes the socket with the umask's mode; a chmod after would be a race
    try:
        await web.UnixSite(runner, str(path)).start()
    finally:
        os.umask(before)


def _make_room(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise ConfigInvalid(f"http.socket: {path} is there and is no socket of this user; choose another path")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()  # whoever listened there has ended
            return
    raise ConfigInvalid(f"http.socket: somebody answers at {path}; choose another path")
