"""A daemon as this process: its limits, its memory, its signals, from the start to the stop."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import sys

from agentd.config import Settings
from agentd.daemon import Daemon
from agentd.log import configure

_M_ARENA_MAX = -8


def run(settings: Settings) -> None:
    """Run a daemon in this process until it is told to stop.

    Raises:
        AlreadyRunning, FormatTooNew, ConfigInvalid, StorageFailed: it could not start.
    """
    configure(settings.log)
    os.umask(0o077)
    # Memory holds tokens: no core of the daemon is left; a task may have one by `ulimit -c`.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))  # a journal and a lock for each session in memory
    _one_heap()
    sys.setswitchinterval(0.001)  # a thread that parses must not hold the loop up for the default 5 ms
    asyncio.run(_run(settings))


def _one_heap() -> None:
    """Threads share one heap (mallopt(3)): with one for each, as glibc has it, 150 MiB of what was freed were kept."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have one heap
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


async def _run(settings: Settings) -> None:
    daemon = Daemon(settings)
    daemon.heed_signals()  # before the start: one that comes meanwhile stops the daemon as it should
    try:
        await daemon.start()
    except BaseException:
        await daemon.close()
        raise
    gc.collect()
    gc.freeze()  # what a start made stays; the collector need not look at it again
    await daemon.run_until_stopped()
