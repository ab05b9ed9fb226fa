"""Shell text by which a task waits for its own output: a worker reads two streams, and of what has come on both by then
it cannot know which was first.
"""

from __future__ import annotations

#: The log of the attempt that asks, from its workspace.
LOG = "../output/$AGENTD_TASK_ID.$AGENTD_ATTEMPT.log"


def written(size: int | str, log: str = LOG) -> str:
    """Go on when so many bytes are in the log; the size may be shell text."""
    return f"while [ $(cat {log} 2>/dev/null | wc -c) -lt {size} ]; do sleep 0.01; done"
