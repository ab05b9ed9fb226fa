"""The daemon and the viewer, side by side in the foreground: one link, and when one ends, both do.

Arguments go to `agentd serve`. The viewer's settings are AGENTD_WEB_… and webui.yaml; see docs/viewer.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from asyncio.subprocess import Process
from pathlib import Path

BIN = Path(sys.executable).parent
#: Between looks whether the daemon answers, in seconds.
LOOK_S = 0.05


class SideBySide:
    """Both processes, by their pids; each in a group of its own, so that Ctrl-C reaches them once, by us."""

    def __init__(self, data_dir: str, arguments: list[str]) -> None:
        self._data_dir = data_dir
        self._arguments = arguments
        self._stopped = asyncio.Event()
        self._running: dict[str, Process] = {}

    async def run(self) -> int:
        """Until a signal, or until one of the two ends; the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, self._stop)
        try:
            daemon = await self._start("agentd", "serve", "--data-dir", self._data_dir, *self._arguments)
            while not self._stopped.is_set() and daemon.returncode is None and not self._answers(daemon.pid):  # noqa: ASYNC110 - a file
                await asyncio.sleep(LOOK_S)
            if self._stopped.is_set() or daemon.returncode is not None:
                return await self._end("agentd", daemon)
            viewer = await self._start("agentd-web", "--data-dir", self._data_dir)
            return await self._either(daemon, viewer)
        finally:
            self._stop()
            for process in self._running.values():
                await process.wait()

    async def _start(self, program: str, *arguments: str) -> Process:
        self._running[program] = await asyncio.create_subprocess_exec(BIN / program, *arguments, process_group=0)
        return self._running[program]

    def _answers(self, pid: int) -> bool:
        try:
            return bool(json.loads(Path(self._data_dir, "agent.json").read_bytes())["pid"] == pid)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    async def _either(self, daemon: Process, viewer: Process) -> int:
        waits = {
            asyncio.create_task(daemon.wait()): "agentd",
            asyncio.create_task(viewer.wait()): "agentd-web",
            asyncio.create_task(self._stopped.wait()): "",
        }
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if self._stopped.is_set():
            return max(await self._end("agentd", daemon), await self._end("agentd-web", viewer))
        ended = waits[done.pop()]
        other = "agentd-web" if ended == "agentd" else "agentd"
        code = self._running[ended].returncode or 0
        print(f"scripts/serve: {ended} ended with {_how(code)}; stopping {other}", file=sys.stderr, flush=True)
        self._stop()
        await self._running[other].wait()
        return code if code > 0 else 1

    def _stop(self) -> None:
        """Ask both to stop; a second time cuts the daemon's drain short."""
        self._stopped.set()
        for process in self._running.values():
            if process.returncode is None:
                process.terminate()

    async def _end(self, program: str, process: Process) -> int:
        code = await process.wait()
        if code < 0:
            print(f"scripts/serve: {program} ended with {_how(code)}", file=sys.stderr, flush=True)
        return code if code >= 0 else 1


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def main() -> None:
    """Start both."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--data-dir", default="sessions_data")
    known, rest = parser.parse_known_args()
    sys.exit(asyncio.run(SideBySide(known.data_dir, rest).run()))


if __name__ == "__main__":
    main()
