"""Which sessions there are, and how a task id leads to its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from agentd.errors import SessionNotFound
from agentd.model.ids import TAG_LENGTH, session_tag
from agentd.store.entry import Entry
from agentd.store.ledger import Ledger


class Found(NamedTuple):
    """What opening found."""

    sessions: int
    live: list[str]  #: sessions with tasks or runs that have not ended, all resident now
    edited: list[str]  #: sessions whose metadata.json somebody wrote while no daemon ran
    torn: int
    damaged: list[tuple[str, str]]  #: session and reason
    aside: list[tuple[str, str]]  #: sessions that could not be put right yet, and why; see Residency.set_aside
    unclean: int


class Catalogue:
    """Every session by id, and by the tag of its tasks' ids."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.on_added: Callable[[str], None] = lambda session_id: None
        self.on_removed: Callable[[str], None] = lambda session_id: None
        self._tags: dict[str, list[str]] = {}

    def entry(self, session_id: str) -> Entry:
        """The session's entry.

        Raises:
            SessionNotFound: no such session.
        """
        entry = self.entries.get(session_id)
        if entry is None:
            raise SessionNotFound(f"no session {session_id!r}; `agentd sessions list` shows those there are")
        return entry

    def in_memory(self, session_id: str) -> Ledger | None:
        """The session's ledger, if it has one now."""
        entry = self.entries.get(session_id)
        return entry.ledger if entry is not None else None

    def sessions_of(self, task_id: str) -> list[str]:
        """The sessions that a task id, or a prefix of one, can belong to."""
        if len(task_id) >= TAG_LENGTH:
            return list(self._tags.get(task_id[:TAG_LENGTH], ()))
        return [each for tag, sessions in self._tags.items() if tag.startswith(task_id) for each in sessions]

    @property
    def resident(self) -> list[Ledger]:
        """Every ledger in memory."""
        return [entry.ledger for entry in self.entries.values() if entry.ledger is not None]

    def _add(self, session_id: str, entry: Entry) -> None:
        self.entries[session_id] = entry
        self._tags.setdefault(session_tag(session_id), []).append(session_id)
        self.on_added(session_id)

    def _remove(self, session_id: str) -> None:
        del self.entries[session_id]
        self.on_removed(session_id)
        tag = session_tag(session_id)
        self._tags[tag].remove(session_id)
        if not self._tags[tag]:
            del self._tags[tag]
