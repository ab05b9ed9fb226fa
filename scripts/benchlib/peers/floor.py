"""The floor: the least a daemon on aiohttp can do. What another one takes beyond is what its promises cost.

It syncs a line before it acknowledges and one at the end, starts programs from its own process, and promises nothing:
no states, no output, no stop, no recovery. It runs as `python -m benchlib.peers.floor JOURNAL PARALLEL`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aiohttp import web

from benchlib.daemon import Client
from benchlib.peers.peer import LOST, Peer


class Floor(Peer):
    """The daemon below, and the client that agentd is measured with."""

    settings = "one POST a task; an aiohttp server, posix_spawn, two syncs a task and nothing else"
    durable = True

    def start(self, parallel: int) -> None:
        since = self.run(sys.executable, "-m", "benchlib.peers.floor", self.directory / "journal", str(parallel))
        self.said("\n", since)
        self._client = Client(self.log.read_bytes()[since:].decode().split()[0], "")

    def submit(self, argv: Sequence[str]) -> str:
        return self._client.submit("bench", *argv)

    def wait(self, handle: Any) -> None:
        self._client.wait(handle)

    def status(self, handle: Any) -> str:
        return LOST

    def version(self) -> str:
        return "-"


class _Daemon:
    def __init__(self, journal: Path, parallel: int) -> None:
        self._journal = os.open(journal, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self._room = asyncio.Semaphore(parallel)
        self._thread = ThreadPoolExecutor(1)
        self._tasks: dict[str, asyncio.Task[int]] = {}

    async def answer(self, request: web.BaseRequest) -> web.Response:
        if request.method == "POST":
            argv = json.loads(await request.read())["spec"]["argv"]
            task_id = f"{len(self._tasks)}"
            await self._synced({"task_id": task_id, "argv": argv})
            self._tasks[task_id] = asyncio.create_task(self._run(task_id, argv))
            return _json({"task_id": task_id}, 201)
        task_id = request.path.split("/")[2]
        return _json({"task_id": task_id, "exit": await self._tasks[task_id], "state": "completed"})

    async def _run(self, task_id: str, argv: list[str]) -> int:
        async with self._room:
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            pid = os.posix_spawnp(argv[0], argv, os.environ)  # noqa: ASYNC221 - the fastest there is
            descriptor = os.pidfd_open(pid)
            loop.add_reader(descriptor, ended.set)
            await ended.wait()
            loop.remove_reader(descriptor)
            os.close(descriptor)
            status = os.waitpid(pid, 0)[1]  # noqa: ASYNC222 - it has ended
        await self._synced({"task_id": task_id, "status": status})
        return status

    async def _synced(self, line: dict[str, Any]) -> None:
        data = json.dumps(line).encode() + b"\n"
        await asyncio.get_running_loop().run_in_executor(self._thread, self._commit, data)

    def _commit(self, data: bytes) -> None:
        os.write(self._journal, data)
        os.fdatasync(self._journal)


def _json(value: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=json.dumps(value).encode(), status=status, content_type="application/json")


async def _serve(journal: Path, parallel: int) -> None:
    runner = web.ServerRunner(web.Server(_Daemon(journal, parallel).answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print("http://{}:{}".format(*runner.addresses[0]), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
