"""Edits of metadata.json by hand: a valid one is taken over, a bad one is put back and kept beside."""

from __future__ import annotations

import contextlib
import os

from msgspec import UNSET
from msgspec.structs import replace

from agentd.errors import Invalid, SessionReadOnly, StorageFailed
from agentd.model.events import Event, SessionArchived, SessionEditRefused, SessionUpdated
from agentd.model.session import SessionChanges
from agentd.service.ground import Ground
from agentd.store.edits import edited


class HandEdits(Ground):
    """What a person changed in a file becomes an event, or is refused with one."""

    async def metadata_touched(self, session_id: str) -> None:
        """Look at a metadata.json that somebody wrote: take a valid edit over, put a bad one back."""
        entry = self.store.entries.get(session_id)
        if entry is None:
            return
        path = self.store.path(session_id) / "metadata.json"
        try:
            ledger = await self.store.ledger(session_id)
            text = await self.in_thread(path.read_bytes)
        except (SessionReadOnly, StorageFailed):
            return
        except OSError as error:
            text = str(error).encode()
        if ledger.head_session is not ledger.session:
            await ledger.settled()
        try:
            changes = edited(ledger.session, text)
        except Invalid as error:
            kept_as = f"metadata.json.refused-{self.now().replace(':', '')}"
            with contextlib.suppress(OSError):
                await self.in_thread(_write_beside, path.with_name(kept_as), text)
            events: list[Event] = [SessionEditRefused(at=self.now(), reason=error.detail, kept_as=kept_as)]
        else:
            if changes is None:
                return
            events = self._edit_events(changes)
        with contextlib.suppress(StorageFailed, SessionReadOnly):
            await self.stage(ledger, events)
            ledger.views.metadata_changed()
            ledger.views.ask()

    def _edit_events(self, changes: SessionChanges) -> list[Event]:
        events: list[Event] = []
        rest = replace(changes, archived=UNSET)
        if rest != SessionChanges():
            events.append(SessionUpdated(at=self.now(), changes=rest, source="file"))
        if changes.archived is not UNSET:
            events.append(SessionArchived(at=self.now(), archived=changes.archived))
        return events


def _write_beside(path: os.PathLike[str], text: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(text)
