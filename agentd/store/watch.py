"""Noticing that metadata.json of a session was edited by hand.

The kernel tells (inotify, Linux): no timer runs and no thread waits while nothing is edited. watchfiles was measured
and passed over: it takes no directory more once it runs, making it anew for 10,000 sessions holds the interpreter for
half a second, and to report within half a second it wakes up five times in each.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

from agentd.store.layout import METADATA

_CLOSE_WRITE, _MOVED_TO, _OVERFLOW, _IGNORED = 0x8, 0x80, 0x4000, 0x8000
_ONLY_DIRECTORY, _DONT_FOLLOW = 0x01000000, 0x02000000
_MASK = _CLOSE_WRITE | _MOVED_TO | _ONLY_DIRECTORY | _DONT_FOLLOW

_HEAD = struct.Struct("iIII")  #: watch, mask, cookie, length of the name: inotify(7)
_NAME = METADATA.encode()
_READ_BYTES = 64 << 10
_SLICE = 500

#: Seconds in which further changes of the same file are one.
DEBOUNCE_S = 0.05


class MetadataWatch:
    """Calls `on_change(session_id)` on the event loop soon after metadata.json of a watched session was written.

    Also when the daemon wrote it itself: the caller knows by the content. Nothing beneath a session's directory is
    watched. When the kernel's limit on watches (fs.inotify.max_user_watches) is reached, `unwatched` counts the
    sessions whose edits are noticed only when they are loaded next. Call everything on the event loop.
    """

    def __init__(self, sessions_dir: Path, on_change: Callable[[str], None]) -> None:
        self._dir = sessions_dir
        self._on_change = on_change
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        self._sessions: dict[int, str] = {}
        self._watches: dict[str, int] = {}
        self._changed: dict[str, None] = {}
        self._early: set[int] = set()  #: watches that rang before the thread that made them came back
        self._due: asyncio.TimerHandle | None = None
        self.unwatched = 0

    async def open(self, session_ids: Iterable[str] = ()) -> None:
        """Begin, with these sessions.

        Raises:
            OSError: the user's limit of inotify instances (fs.inotify.max_user_instances) is reached.
        """
        fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:
            raise _os_error("inotify_init1")
        self._fd = fd
        asyncio.get_running_loop().add_reader(fd, self._read)
        await self.add_all(session_ids)

    def add(self, session_id: str) -> None:
        """Watch a session that exists; about 5 µs. Again: no effect."""
        if self._fd < 0 or session_id in self._watches:
            return
        self._keep(session_id, self._watch(session_id))

    async def add_all(self, session_ids: Iterable[str]) -> None:
        """Watch many, in a thread, for directories that are not in the kernel's cache wait for the disk."""
        todo = [s for s in session_ids if s not in self._watches]
        for at in range(0, len(todo), _SLICE):
            part = todo[at : at + _SLICE]
            for session_id, watch in await asyncio.to_thread(self._watch_each, part):
                self._keep(session_id, watch)
            self._early.clear()

    def remove(self, session_id: str) -> None:
        """Watch it no longer; unknown: no effect."""
        watch = self._watches.pop(session_id, None)
        self._changed.pop(session_id, None)
        if watch is not None and self._sessions.pop(watch, None) is not None:
            self._libc.inotify_rm_watch(self._fd, watch)

    async def close(self) -> None:
        """End; nothing is reported any more. Again: no effect."""
        if self._fd < 0:
            return
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _watch(self, session_id: str) -> int:
        """The watch, or a negative errno."""
        watch: int = self._libc.inotify_add_watch(self._fd, os.fsencode(self._dir / session_id), _MASK)
        return watch if watch >= 0 else -ctypes.get_errno()

    def _watch_each(self, session_ids: list[str]) -> list[tuple[str, int]]:
        return [(session_id, self._watch(session_id)) for session_id in session_ids]

    def _keep(self, session_id: str, watch: int) -> None:
        if watch >= 0:
            self._sessions[watch] = session_id
            self._watches[session_id] = watch
            if watch in self._early:
                self._note(session_id)
        elif watch != -errno.ENOENT:  # deleted meanwhile
            self.unwatched += 1

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            watch, mask, _, length = _HEAD.unpack_from(data, at)
            name = data[at + _HEAD.size : at + _HEAD.size + length].rstrip(b"\0")
            at += _HEAD.size + length
            if mask & _OVERFLOW:  # some were lost: any session may have changed
                for known in self._watches:
                    self._note(known)
            elif mask & _IGNORED:  # the directory is gone
                gone = self._sessions.pop(watch, None)
                if gone is not None and self._watches.get(gone) == watch:
                    del self._watches[gone]
            elif name == _NAME:
                if (session_id := self._sessions.get(watch)) is not None:
                    self._note(session_id)
                else:
                    self._early.add(watch)

    def _note(self, session_id: str) -> None:
        self._changed[session_id] = None
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(DEBOUNCE_S, self._report)

    def _report(self) -> None:
        changed, self._changed, self._due = self._changed, {}, None
        for session_id in changed:
            self._on_change(session_id)


def _os_error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
