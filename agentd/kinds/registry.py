"""Which kinds there are."""

from __future__ import annotations

from agentd.kinds.agent import Agent
from agentd.kinds.protocol import Kind
from agentd.kinds.shell import Shell


def kinds() -> dict[str, Kind]:
    """Every kind by its name; a task's `kind` must be one of these."""
    return {kind.name: kind for kind in (Shell(), Agent())}
