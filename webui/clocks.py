"""Times by an agent's own clock: what it wrote is compared with its time, never with ours."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from webui.contact import Contact
from webui.words import moment


def time_at(contact: Contact | None) -> datetime:
    """The time that an agent's clock shows now, as far as it is known."""
    now = datetime.now(UTC)
    try:
        return now + timedelta(milliseconds=(contact.skew_ms or 0) if contact is not None else 0)
    except OverflowError:
        return now


def ran_s(task: Mapping[str, Any], now: datetime) -> float | None:
    """Seconds that the latest attempt of a running task has run; None when none runs. `now` by the agent's clock."""
    attempts = task.get("attempts")
    latest = attempts[-1] if isinstance(attempts, list) and attempts else None
    if task.get("state") != "running" or not isinstance(latest, dict) or latest.get("ended_at") is not None:
        return None
    started = moment(latest.get("started_at"))
    return max(0.0, round((now - started).total_seconds(), 3)) if started is not None else None
