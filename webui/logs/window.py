"""The lines of a log that a page shows first."""

from __future__ import annotations

from typing import Any

from webui.rows import Row
from webui.upstream import Agent
from webui.visit import Visit


async def first_window(visit: Visit, agent: Agent, task: Row, attempt: int | None) -> dict[str, Any] | None:
    """What the macro `log_view` shows: the end of the log of an attempt (default: the latest)."""
    return None
