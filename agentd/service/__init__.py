"""The verbs: the only caller that changes state."""

from __future__ import annotations

from agentd.service.sessions import EventsPage
from agentd.service.transfer import Transfers
from agentd.service.upkeep import Status


class Service(Transfers):
    """All verbs of a daemon. Methods are called on the event loop; what they return is durable."""


__all__ = ["EventsPage", "Service", "Status"]
