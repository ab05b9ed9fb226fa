"""The daemon and the viewer of a soak: started, killed and stopped, and spoken to by whoever can wait for them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from benchlib.daemon import Daemon
from benchlib.processes import held_port
from soaklib.told import Told

BIN = Path(sys.executable).parent
#: Retention is tight, journals are short and few sessions stay in memory, so that all of that happens often.
SETTINGS = {
    "drain_s": "1s", "workers_min": 2, "workers_max": 12, "workers_heartbeat_s": "1s", "workers_grace_s": "500ms",
    "workers_idle_s": "2s", "workers_max_tasks": 40, "workers_max_restarts": 1000,
    "retention_tasks_max_count": 300, "retention_output_max_bytes": "4MiB", "limits_idempotency_ttl_s": "120s",
    "limits_resident_sessions": 3, "limits_journal_bytes": 128 << 10, "log_format": "json",
}  # fmt: skip


class Lost(Exception):
    """The daemon did not answer to the end: what was asked may have been done, or not."""


class Stage:
    """One data directory with its daemon, and a viewer before it."""

    def __init__(self, directory: Path, told: Told) -> None:
        self.directory = directory
        self.told = told
        self.daemon = Daemon(directory / "data", **SETTINGS)
        self.daemon.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"
        self.boot_id = ""
        self.up = asyncio.Event()
        self.changing = asyncio.Lock()  #: held while the daemon is started or ended
        self.viewer: subprocess.Popen[bytes] | None = None
        self._held = held_port()
        self._viewer_port: int = self._held.getsockname()[1]
        self._cookie = ""
        self._url = ""
        self._http: aiohttp.ClientSession | None = None

    # ------------------------------------------------------------------ the daemon

    async def start(self) -> None:
        """Start it; from now on it answers."""
        await asyncio.to_thread(self.daemon.start)
        about = json.loads((self.directory / "data" / "agent.json").read_bytes())
        token = (self.directory / "data" / "token").read_text().strip()
        if self._http is None:
            connector = aiohttp.TCPConnector(limit=0)
            self._http = aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {token}"})
        self._url, self.boot_id = about["url"], about["boot_id"]
        self.told.tell("boot", boot_id=self.boot_id)
        self.up.set()

    async def kill(self, *, workers_too: bool) -> None:
        """SIGKILL; what it ran is for the next start to end."""
        self.told.tell("killed", boot_id=self.boot_id)
        self.up.clear()
        await asyncio.to_thread(self.daemon.kill, workers_too)

    async def stop(self) -> None:
        """SIGTERM, and wait for it."""
        self.told.tell("stopped", boot_id=self.boot_id)
        code = await asyncio.to_thread(self.daemon.stop)
        if code != 0:
            self.told.complain(f"the daemon left with exit code {code} when it was asked to stop")
            self.told.tell("killed", boot_id=self.boot_id)
        self.up.clear()

    # ------------------------------------------------------------------ what is asked of it

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and answer, decoded where it is JSON. Waits for a daemon that is not there yet.

        Raises:
            Lost: it went away before it had answered.
        """
        async with self.answer(method, path, body, **headers) as response:
            data = await _within(response.read())
            return response.status, json.loads(data) if "json" in response.content_type else data

    @asynccontextmanager
    async def answer(self, method: str, path: str, body: Any = None, **headers: str) -> AsyncIterator[Any]:
        """The answer itself, to read as it comes; raises Lost."""
        await self.up.wait()
        assert self._http is not None
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=60)
        send = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            async with self._http.request(
                method, self._url + path, json=body, headers=send, timeout=timeout
            ) as response:
                yield response
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            await asyncio.sleep(0.02)  # a daemon that is being killed refuses at once
            raise Lost(f"{method} {path}: {error!r}") from error

    # ------------------------------------------------------------------ the viewer

    async def start_viewer(self) -> None:
        """Start it, on the port and with the secret that it had before; log in the first time alone."""
        argv = [str(BIN / "agentd-web"), "--port", str(self._viewer_port), "--data-dir", str(self.directory / "none")]
        argv += ["--secret-file", str(self.directory / "secret"), "--agent", f"one={self.directory / 'data'}"]
        env = {name: value for name, value in os.environ.items() if not name.startswith("AGENTD_")}
        out = self.directory / "viewer.out"
        with out.open("wb") as output, (self.directory / "viewer.log").open("ab") as log:
            self.viewer = await asyncio.to_thread(subprocess.Popen, argv, stdout=output, stderr=log, env=env)
        link = await _until(lambda: next((word for word in out.read_text().split() if "/login/" in word), ""))
        if not self._cookie:
            assert self._http is not None
            async with self._http.post(link, allow_redirects=False, headers={"Authorization": ""}) as response:
                self._cookie = response.headers["Set-Cookie"].partition(";")[0]

    async def kill_viewer(self) -> None:
        """SIGKILL, and start another."""
        assert self.viewer is not None
        self.viewer.kill()
        await asyncio.to_thread(self.viewer.wait)
        await self.start_viewer()

    async def page(self, path: str) -> int:
        """The status of a page of the viewer; 0 when it went away."""
        assert self._http is not None
        headers = {"Cookie": self._cookie, "Accept": "text/html", "Authorization": ""}
        try:
            url = f"http://127.0.0.1:{self._viewer_port}{path}"
            timeout = aiohttp.ClientTimeout(total=60)
            async with self._http.get(url, headers=headers, timeout=timeout, allow_redirects=False) as response:
                await response.read()
                return response.status
        except (aiohttp.ClientError, OSError, TimeoutError):
            return 0

    async def close(self) -> None:
        """End what is left."""
        if self.viewer is not None and self.viewer.poll() is None:
            self.viewer.terminate()
            await asyncio.to_thread(self.viewer.wait, 30)
        self._held.close()
        if self._http is not None:
            await self._http.close()
        await asyncio.to_thread(self.daemon.stop)


async def _within(reading: Any) -> bytes:
    data: bytes = await reading
    return data


async def _until(condition: Callable[[], str], within_s: float = 60) -> str:
    async with asyncio.timeout(within_s):
        while not (value := condition()):  # noqa: ASYNC110 - another process writes a file
            await asyncio.sleep(0.02)
    return value


def signal_to(pid: int, number: signal.Signals) -> bool:
    """Signal a process, if it is still there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
