"""`python -m agentd.drivers.container reap`: removes the containers that drivers of an agent left behind.

What it did stands on stdout, a Reaped as one line of JSON; the exit code is 0 when none is left.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from typing import NoReturn

import msgspec

from agentd.drivers.container_engine import Engine, Refused, engine_at, host_of
from agentd.kinds.containers import AGENT_LABEL, ATTEMPT_LABEL, BOOT_LABEL
from agentd.model.task import Value

#: How often it looks, and between two looks, in seconds: what a killed driver asked for last may still be under way.
LOOKS, AGAIN_S = 5, 1.0


class Reaped(Value, frozen=True, kw_only=True):
    """What was removed and what is left, by container ids, and why that is left."""

    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    problem: str = ""


def reap(arguments: list[str]) -> NoReturn:
    """Remove what the arguments say."""
    parser = argparse.ArgumentParser(prog="agentd.drivers.container reap", description=__doc__)
    parser.add_argument("--agent", required=True, help="whose containers")
    parser.add_argument("--attempt", help="only those of this attempt")
    parser.add_argument("--spare-boot", help="but those of this boot")
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the daemon, which waits for us
    reaped = asyncio.run(_reap(asked.agent, asked.attempt, asked.spare_boot))
    sys.stdout.write(msgspec.json.encode(reaped).decode() + "\n")
    sys.stdout.flush()
    os._exit(1 if reaped.problem else 0)


async def _reap(agent: str, attempt: str | None, spare_boot: str | None) -> Reaped:
    removed: list[str] = []
    left: list[str] = []
    try:
        async with engine_at(host_of(os.environ)) as engine:
            for look in range(LOOKS):
                left = await _found(engine, agent, attempt, spare_boot)
                for container_id in left:
                    await engine.remove(container_id)
                removed += [each for each in left if each not in removed]
                if not left and (look or attempt is None):
                    return Reaped(removed=tuple(removed))
                await asyncio.sleep(AGAIN_S if look or not left else 0)
        return Reaped(left=tuple(left), problem="the engine says they were removed, and lists them all the same")
    except Refused as error:
        return Reaped(left=tuple(left), problem=str(error))


async def _found(engine: Engine, agent: str, attempt: str | None, spare_boot: str | None) -> list[str]:
    labels = {AGENT_LABEL: agent} | ({ATTEMPT_LABEL: attempt} if attempt is not None else {})
    found = await engine.labelled(labels)
    return [each for each, its in found.items() if spare_boot is None or its.get(BOOT_LABEL) != spare_boot]
