"""The async client of agentd's HTTP API.

async with Client(*discover(None, os.environ)) as agent:
    task = await agent.submit(NewTask(spec={"command": "make"}), session_id="build")
    async for part in agent.follow_output(task.task_id): ...
"""

from agentd.client.api import MAX_WAIT_S, Client
from agentd.client.discovery import Endpoint, data_dirs, discover
from agentd.client.streams import EventsPage, OutputChunk, ServerEvent, parsed
from agentd.errors import AgentdError, Unreachable
from agentd.model.reading import UNREADABLE

__all__ = [
    "MAX_WAIT_S",
    "UNREADABLE",
    "AgentdError",
    "Client",
    "Endpoint",
    "EventsPage",
    "OutputChunk",
    "ServerEvent",
    "Unreachable",
    "data_dirs",
    "discover",
    "parsed",
]
