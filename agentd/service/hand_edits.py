"""Edits of metadata.json by hand: a valid one is taken over, a bad one is put back and kept beside."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from msgspec import UNSET
from msgspec.structs import replace

from agentd.errors import AgentdError, Invalid, SessionNotFound, SessionReadOnly, StorageFailed, Unavailable
from agentd.model.events import Event, SessionArchived, SessionEditRefused, SessionUpdated
from agentd.model.session import Session, SessionChanges
from agentd.service.ground import Ground
from agentd.service.listing import check_labels
from agentd.store import inside, layout
from agentd.store.edits import MAX_BYTES, edited
from agentd.store.ledger import Ledger


class HandEdits(Ground):
    """What a person changed in a file becomes an event, or is refused with one."""

    async def metadata_touched(self, session_id: str) -> None:
        """Look at a metadata.json that somebody wrote: take a valid edit over, put a bad one back."""
        if session_id not in self.store.entries:
            return
        try:
            ledger = await self.store.ledger(session_id)
            session, text = await self._settled_text(ledger)
        except (SessionNotFound, SessionReadOnly, StorageFailed, Unavailable):
            return  # deleted meanwhile, or looked at when it is opened next
        try:
            changes = edited(session, text)
            if changes is not None and changes.labels is not UNSET:
                check_labels(changes.labels)
        except Invalid as error:
            kept_as = f"metadata.json.refused-{self.now().replace(':', '')}"
            try:
                await self.in_thread(_write_beside, self.store.path(session_id) / kept_as, text)
            except OSError:
                return  # what cannot be kept is not overwritten
            events: list[Event] = [SessionEditRefused(at=self.now(), reason=error.detail, kept_as=kept_as)]
        else:
            if changes is None:
                return
            events = self._edit_events(changes)
        with contextlib.suppress(StorageFailed, SessionReadOnly):
            await self.stage(ledger, events)
            ledger.views.metadata_changed()
            ledger.views.ask()

    async def _settled_text(self, ledger: Ledger) -> tuple[Session, bytes]:
        """A session and metadata.json at a moment when the daemon itself had nothing more to write there.

        Else an older text of the daemon's own would look like an edit that takes a newer change back.
        """
        while True:
            await ledger.settled()
            session = ledger.session
            await ledger.views.flush()
            text = await self.in_thread(_read, self.store.path(session.session_id))
            if ledger.head_session.seq == session.seq:
                return session, text

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
