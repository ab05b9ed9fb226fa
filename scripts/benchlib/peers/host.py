"""The process in which one peer and its client live, so that all that they use is in one tree.

It reads one command a line, JSON, and answers each with a line: what it measured, or `{"error": …}`.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from benchlib.peers.catalogue import PEERS
from benchlib.peers.crashing import crash
from benchlib.peers.peer import Peer, fresh, kill
from benchlib.processes import cpu_s, shared_mib, tree

PR_SET_CHILD_SUBREAPER = 36
WARM_UP = 5
PAUSE_S = 0.02


def main(name: str, directory: Path) -> None:
    """Take commands until there are no more; then nothing that was begun here is left."""
    # Whoever a daemon leaves behind becomes ours, with the time it used.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what peers print is no answer
    entry = PEERS[name]
    made = getattr(importlib.import_module(f"benchlib.peers.{entry.module}"), entry.name)
    peer: Peer = made(fresh(directory))
    try:
        for line in sys.stdin:
            command, *arguments = json.loads(line)
            try:
                answer = COMMANDS[command](peer, *arguments)
            except Exception as error:  # one that fails is a row that says so
                answer = {"error": f"{type(error).__name__}: {error}"[:300]}
            print(json.dumps(answer), file=answers, flush=True)
    finally:
        peer.stop()
        kill([pid for pid in tree(os.getpid()) if pid != os.getpid()])


def _start(peer: Peer, parallel: int) -> dict[str, Any]:
    began = perf_counter()
    peer.start(parallel)
    took = perf_counter() - began
    for _ in range(WARM_UP):
        peer.wait(peer.submit(["true"]))
    durable = "yes" if peer.durable else "no"
    return {"ready_s": took, "version": peer.version(), "settings": peer.settings, "durable": durable}


def _latency(peer: Peer, count: int) -> dict[str, Any]:
    """Seconds until acknowledged, and until the end was known, one at a time."""
    submits, ends = [], []
    for _ in range(count):
        sleep(PAUSE_S)
        began = perf_counter()
        handle = peer.submit(["true"])
        submits.append(perf_counter() - began)
        peer.wait(handle)
        ends.append(perf_counter() - began)
    return {"submit": submits, "end": ends}


def _throughput(peer: Peer, count: int) -> dict[str, Any]:
    """Tasks a second from the first submit to the last end, and processor seconds a task of all in the tree."""
    used, began = _used_s(), perf_counter()
    peer.wait_all(peer.submit_all(["true"], count))
    took = perf_counter() - began
    return {"rate": count / took, "cpu_s": (_used_s() - used) / count}


def _used_s() -> float:
    """Processor seconds of all in the tree so far.

    Who was left behind and has ended is waited for first: of a zombie the kernel tells whole ticks only.
    """
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass  # there is none
    return cpu_s(os.getpid())


def _idle(peer: Peer, seconds: float) -> dict[str, Any]:
    """MiB of its processes, and of the server that it stands on; the share of a core that waiting costs."""
    used = _used_s()
    sleep(seconds)
    used = _used_s() - used
    return {"mib": shared_mib(peer.processes()), "server_mib": shared_mib(peer.servers()), "share": used / seconds}


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "start": _start,
    "latency": _latency,
    "throughput": _throughput,
    "idle": _idle,
    "crash": crash,
}

if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
