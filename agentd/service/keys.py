"""Idempotency-Keys: what one made first, and for which session it was used."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from typing import Literal

from agentd.clock import Clock, epoch
from agentd.errors import IdempotencyConflict
from agentd.model.events import Event, SessionCreated, TaskCreated
from agentd.model.requests import Key
from agentd.model.run_events import RunCreated
from agentd.store.ledger import Ledger
from agentd.store.replay import KeyRecord

#: Keys whose session is remembered, to notice one that is used again for another session.
HOMES_KEPT = 10_000


class Keys:
    """Keys count for `ttl_s` seconds. What they made is in the ledgers; here is where each was used in this boot."""

    def __init__(self, clock: Clock, ttl_s: float) -> None:
        self._clock = clock
        self._ttl_s = ttl_s
        self._homes: OrderedDict[str, str] = OrderedDict()

    def expired(self, record: KeyRecord) -> bool:
        """Whether the key may be used for something else by now."""
        return self._clock.time() - epoch(record.at) > self._ttl_s

    def first_use(self, ledger: Ledger, key: Key | None, made: Literal["task_id", "run_id"]) -> KeyRecord | None:
        """What the request with this key made in the session, if one came before.

        Raises:
            IdempotencyConflict: it had another body, or made something else.
        """
        record = ledger.head_key(key.key_hash) if key is not None else None
        if key is None or record is None or self.expired(record):
            return None
        if record.body_hash != key.body_hash or getattr(record, made) is None:
            raise IdempotencyConflict("this Idempotency-Key was used with another body; use a new key")
        return record

    def check_home(self, key: Key | None, session_id: str, sessions: Container[str]) -> None:
        """Raises IdempotencyConflict when the key made something in another of the sessions."""
        home = self._homes.get(key.key_hash) if key is not None else None
        if home is not None and home != session_id and home in sessions:
            raise IdempotencyConflict(f"this Idempotency-Key was used for session {home!r}; use a new key")

    def remember(self, event: Event, session_id: str) -> None:
        """Take note of the event's key, if it has one."""
        if isinstance(event, (TaskCreated, SessionCreated, RunCreated)) and event.key_hash is not None:
            self._homes[event.key_hash] = session_id
            if len(self._homes) > HOMES_KEPT:
                self._homes.popitem(last=False)
