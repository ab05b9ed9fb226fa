"""The smallest program that uses agentd: submit a command, follow its output, say how it ended.

usage: python smallest_client.py SESSION COMMAND [ARG...]

It reads AGENTD_URL and AGENTD_TOKEN, as every client does, or else agent.json and token in sessions_data/. A program
that does more will want `agentd.client`, which is typed and resumes streams by itself.
"""

# ruff: noqa: T201
from __future__ import annotations

import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

DATA = Path(os.environ.get("AGENTD_DATA_DIR", "sessions_data"))
URL = os.environ.get("AGENTD_URL") or json.loads((DATA / "agent.json").read_text())["url"]
TOKEN = os.environ.get("AGENTD_TOKEN") or (DATA / "token").read_text().strip()


def ask(method: str, path: str, body: object = None, **headers: str) -> bytes:
    """The body of the answer; urllib raises for any status of 400 and more."""
    headers |= {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(URL + path, data, headers, method=method)) as answer:  # noqa: S310 - the URL is the user's
        content: bytes = answer.read()
        return content


def main(session_id: str, argv: list[str]) -> int:
    """Run the command in the session; its exit code."""
    # With a key of its own, this request may be repeated after any failure: it makes one task, whatever happens.
    key = {"Idempotency-Key": str(uuid.uuid4())}
    task: dict[str, Any] = json.loads(
        ask("POST", "/tasks", {"session_id": session_id, "spec": {"argv": argv, "cwd": os.getcwd()}}, **key)
    )
    print(f"task {task['task_id']} is {task['state']}", file=sys.stderr)
    while task["ended_at"] is None:
        task = json.loads(ask("GET", f"/tasks/{task['task_id']}/wait?timeout_s=20"))
    sys.stdout.buffer.write(ask("GET", f"/tasks/{task['task_id']}/output"))
    print(f"{task['state']}: {task['cause']['message']}", file=sys.stderr)
    exit_code = task["cause"].get("exit_code")
    return exit_code if isinstance(exit_code, int) else 1


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
