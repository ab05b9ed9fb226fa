"""`python -m agentd.drivers.container`: does with a container what the kind `docker` says, an Assignment on stdin.

It ends with the container's exit code, or with 125 where there is none. `… container reap` removes the containers that
are left of an agent, or of one attempt (`container_reaping.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from agentd.drivers.child import STOPS
from agentd.drivers.container_engine import Refused, engine_at, host_of
from agentd.drivers.container_reaping import reap
from agentd.drivers.container_running import Errand
from agentd.drivers.reporting import Reports
from agentd.drivers.writing import replace
from agentd.engines.local.process_tree import read_process
from agentd.kinds.containers import Assignment, Operation, Record

#: As docker says that it could not run the container.
NOT_RUN = 125
#: As a shell says that something was ended by SIGTERM: the driver was, before its container had an exit code.
ENDED = 128 + signal.SIGTERM
#: Of the grace, what killing and removing is left, at most; below the second a stop kills at once. In seconds.
RESERVE_S, SHORT_S = 2.0, 1.0
#: The part of the grace that the reserve may be.
RESERVE_PART = 0.4
#: How long removing may take when nobody presses, in seconds.
CLEAR_S = 60.0


def main() -> None:
    """Do it; never returns."""
    if sys.argv[1:2] == ["reap"]:
        reap(sys.argv[2:])
    environ = dict(os.environ)
    result_path = environ.pop("AGENTD_RESULT", None)
    assignment = msgspec.json.decode(sys.stdin.buffer.read(), type=Assignment)
    reports = Reports(environ.get("AGENTD_URL", ""), environ.get("AGENTD_TOKEN", ""), environ.get("AGENTD_TASK_ID", ""))
    code = asyncio.run(Driver(assignment, result_path, reports).run(environ))
    reports.close()
    sys.stderr.flush()
    os._exit(code)


class Stops:
    """The signals that ask for an end: the first asks for a kind one, the second for one at once.

    So does the end of the daemon, the worker's parent: its worker then leaves no time for kindness.
    """

    def __init__(self) -> None:
        self.first, self.second = asyncio.Event(), asyncio.Event()
        self.abandoned = False
        loop = asyncio.get_running_loop()
        for number in STOPS:
            loop.add_signal_handler(number, self._asked)
        worker = read_process(os.getppid())
        try:
            self._daemon = os.pidfd_open(worker.parent if worker is not None else 0)
        except OSError:  # it is gone already, and a signal about to come
            self._abandon()
        else:
            loop.add_reader(self._daemon, self._ended)

    def _asked(self) -> None:
        (self.second if self.first.is_set() else self.first).set()

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._daemon)
        self._abandon()

    def _abandon(self) -> None:
        self.abandoned = True
        self.first.set()
        self.second.set()


class Driver:
    """One assignment, whatever comes in between: stops, an engine that refuses or goes away."""

    def __init__(self, assignment: Assignment, result_path: str | None, reports: Reports) -> None:
        self._told = assignment
        self._result_path = result_path
        self._reports = reports
        self._known = Record(gone=True)

    async def run(self, environ: Mapping[str, str]) -> int:
        """Do it, and leave a record; the exit code to end with."""
        stops = Stops()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=1))  # output stays in order
        problem = ""
        try:
            async with engine_at(host_of(environ)) as engine:
                await self._do(Errand(self._told, engine, self._tell, self._say), stops)
        except Refused as error:
            problem = str(error)
            _complain(problem)
        self._tell(msgspec.structs.replace(self._known, problem=problem))
        if problem:
            return NOT_RUN
        if self._told.operation in (Operation.RUN, Operation.START):
            return self._known.exit_code if self._known.exit_code is not None else ENDED
        return ENDED if stops.first.is_set() else 0

    async def _do(self, errand: Errand, stops: Stops) -> None:
        work = asyncio.create_task(errand.work())
        try:
            if not await _before(work, stops.first, None):
                await self._end(errand, work, stops)
            with contextlib.suppress(asyncio.CancelledError):
                self._known = await work
        finally:
            await self._clear(errand)

    async def _end(self, errand: Errand, work: asyncio.Task[Record], stops: Stops) -> None:
        """Ask the container to end, kill it when the grace is nearly over, and stop working on it."""
        clock = asyncio.get_running_loop().time
        grace_s = self._told.grace_s
        over = clock() + grace_s
        if errand.begun and not stops.abandoned:
            kind_s = grace_s - min(RESERVE_S, grace_s * RESERVE_PART)
            ended = False
            if grace_s >= SHORT_S:
                asking = asyncio.create_task(errand.ask_to_end(kind_s))
                ended = await _before(work, stops.second, kind_s)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            if not ended and not stops.abandoned:
                with contextlib.suppress(Refused, TimeoutError):
                    async with asyncio.timeout(over - clock()):
                        await errand.kill()
                await asyncio.wait({work}, timeout=max(0.0, (over - clock()) / 2))
        work.cancel()
        await asyncio.wait({work})

    async def _clear(self, errand: Errand) -> None:
        """Remove what was made; the record says whether that was done."""
        known = msgspec.structs.replace(self._known, container_id=errand.container_id, started=errand.started)
        gone = True
        try:
            async with asyncio.timeout(CLEAR_S):
                await errand.clear()
        except (Refused, TimeoutError) as error:
            gone = False
            _complain(f"the container could not be removed: {str(error) or 'the engine does not answer'}")
        self._known = msgspec.structs.replace(known, image=self._told.image or None, gone=gone)

    def _tell(self, record: Record) -> None:
        self._known = record
        if self._result_path is not None:
            try:
                replace(Path(self._result_path), msgspec.json.encode(record).decode())
            except OSError as error:
                _complain(f"the result could not be written: {error}")

    def _say(self, what: str) -> None:
        _complain(what)
        self._reports.progress(message=what)


async def _before(work: asyncio.Task[Record], event: asyncio.Event, timeout_s: float | None) -> bool:
    """Whether the work is done before the event comes and the time is over."""
    coming = asyncio.create_task(event.wait())
    await asyncio.wait({work, coming}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    coming.cancel()
    return work.done()


def _complain(what: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(f"agentd: {what}\n")
        sys.stderr.flush()


if __name__ == "__main__":
    main()
