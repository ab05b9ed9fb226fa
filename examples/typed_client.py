"""The same with agentd's own client: typed, and its streams go on where a connection broke.

usage: .venv/bin/python examples/typed_client.py SESSION COMMAND [ARG...]
"""

from __future__ import annotations

import asyncio
import os
import sys

from agentd.client import Client, discover
from agentd.model.requests import NewTask
from agentd.model.task import Task


async def main(session_id: str, argv: list[str]) -> int:
    """Run the command in the session, show its output as it comes; its exit code."""
    async with Client(*discover(None, os.environ)) as agent:
        task = await agent.submit(NewTask(spec={"argv": argv, "cwd": os.getcwd()}), session_id=session_id)
        async for part in agent.follow_output(task.task_id):
            if isinstance(part, Task):
                task = part  # the last part is the task, ended
            else:
                sys.stdout.buffer.write(part.data)
                sys.stdout.buffer.flush()
    if task.cause is None:
        return 1
    print(f"{task.state}: {task.cause.message}", file=sys.stderr)  # noqa: T201
    return 1 if task.cause.exit_code is None else task.cause.exit_code


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(asyncio.run(main(sys.argv[1], sys.argv[2:])))
