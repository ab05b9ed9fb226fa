"""Edits of metadata.json by hand: a valid one is taken over, a bad one is put back and kept beside."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from msgspec import UNSET
from msgspec.structs import asdict, replace

from agentd.errors import AgentdError, Invalid, SessionNotFound, SessionReadOnly, StorageFailed, Unavailable
from agentd.model.events import Event, SessionArchived, SessionEditRefused, SessionUpdated
from agentd.model.session import Session, SessionChanges
from agentd.service.ground import Ground
from agentd.service.listing import check_labels
from agentd.store import inside, layout
from agentd.store.edits import MAX_BYTES, base_of, edited, rebased
from agentd.store.ledger import Ledger

#: Seconds after which an edit that could not be recorded is looked at again.
AGAIN_S = 1.0


class HandEdits(Ground):
    """What a person changed in a file becomes an event, or is refused with one."""

    async def metadata_touched(self, session_id: str) -> None:
        """Look at a metadata.json that somebody wrote: take a valid edit over, put a bad one back.

        While the disk refuses the event, the edit stays where it is and is looked at again.
        """
        while session_id in self.store.entries:
            try:
                await self.take_edit_in(session_id)
                return
            except (StorageFailed, SessionReadOnly):
                entry = self.store.entries.get(session_id)
                if entry is None or entry.ledger is None:
                    return  # damaged, or set aside: looked at when it is opened
                await asyncio.sleep(AGAIN_S)
            except (SessionNotFound, Unavailable):
                return  # deleted meanwhile, or looked at when it is opened next

    async def take_edit_in(self, session_id: str) -> None:
        """The same, once.

        Raises:
            SessionNotFound, SessionReadOnly, StorageFailed, Unavailable: it is not taken in, and stays in the file.
        """
        ledger = await self.store.ledger(session_id)
        with ledger.kept():
            await self._take_edit_in(ledger)

    async def _take_edit_in(self, ledger: Ledger) -> None:
        async with ledger.views.edits:
            text = await self._settled_text(ledger)
            before = ledger.folder.ours
            if text in before:
                return
            base = base_of(text, [ledger.session, *before.values()])
            events, after = await self._events_of(ledger, base, text)
            # Known now: what is written next may replace it.
            ledger.folder.ours = {text: after}
            try:
                if events:
                    await self.stage(ledger, events)
            except (StorageFailed, SessionReadOnly):
                ledger.folder.ours = before
                raise
            ledger.views.metadata_changed()
            ledger.views.ask()

    async def _events_of(self, ledger: Ledger, base: Session, text: bytes) -> tuple[list[Event], Session]:
        """The events that an edit of `base` makes, and the session that its text then shows.

        Raises:
            StorageFailed: a bad text could not be kept, so it must not be overwritten.
            SessionNotFound: it was not read, for the session is being deleted.
        """
        try:
            changes = edited(base, text)
            if changes is None:
                return [], base
            if changes.labels is not UNSET:
                check_labels(changes.labels)
        except Invalid as error:
            kept_as = f"metadata.json.refused-{self.now().replace(':', '')}"
            try:
                await self.in_thread(_write_beside, self.store.path(base.session_id) / kept_as, text)
            except FileNotFoundError:
                raise SessionNotFound(f"session {base.session_id!r} has lost its directory") from None
            except OSError as refused:
                raise StorageFailed(f"a refused edit cannot be kept: {refused}") from refused
            return [SessionEditRefused(at=self.now(), reason=error.detail, kept_as=kept_as)], base
        given = {name: value for name, value in asdict(changes).items() if value is not UNSET}
        left = rebased(changes, base, ledger.head_session)
        return self._edit_events(left) if left is not None else [], replace(base, **given)

    async def _settled_text(self, ledger: Ledger) -> bytes:
        """The text of metadata.json at a moment when nothing of the daemon's own was still to be written there."""
        while True:
            await ledger.settled()
            seq = ledger.session.seq
            await ledger.views.flush()
            text = await self.in_thread(_read, self.store.path(ledger.session.session_id))
            if ledger.head_session.seq == seq:
                return text

    def _edit_events(self, changes: SessionChanges) -> list[Event]:
        events: list[Event] = []
        rest = replace(changes, archived=UNSET)
        if rest != SessionChanges():
            events.append(SessionUpdated(at=self.now(), changes=rest, source="file"))
        if changes.archived is not UNSET:
            events.append(SessionArchived(at=self.now(), archived=changes.archived))
        return events


def _read(session_dir: Path) -> bytes:
    """The text of metadata.json, or why it cannot be read: neither is a valid session then."""
    try:
        with inside.directory(session_dir) as fd, os.fdopen(inside.open_file(fd, layout.METADATA), "rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, AgentdError) as error:
        return str(error).encode()


def _write_beside(path: os.PathLike[str], text: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(text)
