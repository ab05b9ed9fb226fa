"""A session as one archive: out of this agent, and into it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

from agentd.kinds.agents.known import goes_along
from agentd.model.events import SessionImported
from agentd.model.ids import check_session_id
from agentd.model.requests import SessionView
from agentd.service.cleanup import Cleanup
from agentd.service.listing import view_of


class Exported(NamedTuple):
    """An archive of a session as of event `seq`; `blocks` reads it, blocking."""

    seq: int
    blocks: Iterator[bytes]


class Transfers(Cleanup):
    """Export and import."""

    async def export_session(self, session_id: str) -> Exported:
        """The session as it is durable now, though it goes on meanwhile; of `home/` conversations alone, without
        `workspace/`.

        Raises:
            SessionNotFound, SessionReadOnly
            StorageFailed: an artifact cannot be read; it is named.

        Its blocks raise StorageFailed when a file cannot be read any more, or retention took it meanwhile.
        """
        ledger = await self.store.ledger(session_id)
        return Exported(ledger.seq, await self.store.export(ledger, goes_along))

    async def import_session(self, session_id: str, blocks: AsyncIterator[bytes]) -> SessionView:
        """Make the session that an archive holds. Nothing starts: what had not ended when it was exported is cancelled.

        Raises:
            Invalid: the id; or it is not an archive of this session, or not as it was exported.
            SessionExists, TooLarge, QueueFull, Draining, StorageFailed
        """
        check_session_id(session_id)
        self.refuse_when_draining()
        self.refuse_when_full(session_id)
        entry = await self.store.receive(session_id, blocks, self.now(), goes_along)
        self.announce(SessionImported(at=self.now(), session_id=session_id, seq=entry.seq))
        return view_of(entry)
