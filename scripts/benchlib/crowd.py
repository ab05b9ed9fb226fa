"""Any number of scripted agents in one process: each a port on loopback that answers as agentd does, or worse.

`python crowd.py N SESSIONS` prints the ports, then serves until its stdin ends; a line `touch K` there makes
the K-th agent's first session change, which its streams tell. Of the agents 5 % are dead (nothing listens), 5 % slow
(2 s) and 1 % lie (what they answer is no agentd's), spread evenly; `--good` makes all of them good.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from email.utils import formatdate
from urllib.parse import parse_qs, urlsplit

SLOW_S = 2.0
HELLO = b'retry: 1000\nid: b-0\nevent: hello\ndata: {"seq": 0, "boot_id": "b"}\n\n'


def manner(number: int, good: bool) -> str:
    """How the agent of this number behaves."""
    if good:
        return "good"
    return {7: "dead", 13: "slow"}.get(number % 20, "lying" if number % 100 == 3 else "good")


class Agent:
    """One agent: its sessions, newest first, and its streams."""

    def __init__(self, number: int, sessions: int, how: str) -> None:
        self.number = number
        self.how = how
        self.changes = 0
        self.streams: set[asyncio.Transport] = set()
        self.rows = [self._row(n) for n in range(sessions)]
        status: dict[str, object] = {"agent_id": f"a{number}", "version": "0.1.0", "state": "working", "current": []}
        status |= {"boot_id": "b", "queue": {"depth": number % 7, "waiting": 0}, "disk": {"full": False}}
        self.status = json.dumps(status).encode()

    def _row(self, n: int) -> dict[str, object]:
        at = f"2026-01-{1 + n % 28:02}T{self.number % 24:02}:{self.number // 24 % 60:02}:{n % 60:02}.{self.number:06}Z"
        policy = {"max_parallel": 1, "timeout_s": None, "tasks_kept": 100, "pinned": False, "retention": None}
        return {
            "session_id": f"session-{self.number}-{n}", "title": f"Nightly build {n} of {self.number}", "seq": n + 9,
            "labels": {"team": "platform", "branch": "main"}, "policy": policy, "owner": None, "archived": False,
            "conversations": {}, "created_at": at, "updated_at": at, "state": "idle", "counts": {"completed": n % 40},
            "reason": None,
        }  # fmt: skip

    def page(self, query: dict[str, list[str]]) -> bytes:
        limit = int(query.get("limit", ["100"])[0])
        after = int(query.get("cursor", ["0"])[0])
        rows = sorted(self.rows, key=lambda row: str(row["updated_at"]), reverse=True)
        following = str(after + limit) if after + limit < len(rows) else None
        return json.dumps({"data": rows[after : after + limit], "next": following}).encode()

    def touch(self) -> None:
        """Change the first session, and tell it."""
        self.changes += 1
        self.rows[0] |= {"title": f"changed {self.changes}", "updated_at": f"2026-02-01T00:00:00.{self.changes:06}Z"}
        event = {"seq": self.changes, "type": "session.updated", "session_id": self.rows[0]["session_id"]}
        block = f"id: b-{self.changes}\nevent: session.updated\ndata: {json.dumps(event)}\n\n".encode()
        for stream in self.streams:
            stream.write(block)


class Connection(asyncio.Protocol):
    """A keep-alive connection; requests have no bodies."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: BaseException | None) -> None:
        self._agent.streams.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._head += data
        while b"\r\n\r\n" in self._head:
            head, _, self._head = self._head.partition(b"\r\n\r\n")
            target = urlsplit(head.split(b" ", 2)[1].decode())
            if self._agent.how == "slow":
                asyncio.get_running_loop().call_later(SLOW_S, self._answer, target.path, target.query)
            else:
                self._answer(target.path, target.query)

    def _answer(self, path: str, query: str) -> None:
        agent = self._agent
        if path == "/events":
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + HELLO)
            agent.streams.add(self._transport)
            return
        bodies = {"/status": lambda: agent.status, "/sessions": lambda: agent.page(parse_qs(query))}
        body = b'{"data": 7}' if agent.how == "lying" else bodies.get(path, lambda: b'{"status": "ok"}')()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: {formatdate(usegmt=True)}\r\n"
        self._transport.write(f"{head}Agentd-Role: admin\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


async def serve(number: int, sessions: int, good: bool) -> None:
    """Print the ports as JSON, and serve."""
    loop = asyncio.get_running_loop()
    agents = [Agent(n, sessions, manner(n, good)) for n in range(number)]
    ports = []
    for agent in agents:
        listener = socket.create_server(("127.0.0.1", 0))
        ports.append(listener.getsockname()[1])
        if agent.how == "dead":
            listener.close()
            continue
        await loop.create_server(lambda agent=agent: Connection(agent), sock=listener)  # type: ignore[misc]
    print(json.dumps(ports), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        agents[int(line.split()[1])].touch()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), "--good" in sys.argv))
