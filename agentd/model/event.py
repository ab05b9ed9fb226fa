"""What every event is."""

from __future__ import annotations

from agentd.model.task import Value


class Event(Value, tag_field="type", omit_defaults=True, frozen=True, kw_only=True):
    """One recorded change. The journal adds `seq`, `b`, `session_id` and `crc` to each."""

    at: str
