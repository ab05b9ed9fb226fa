"""One soak: everybody at work for a while, then a quiet end, then the proof."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from benchlib.daemon import LIVE
from benchlib.figures import Row
from filecheck.proof import Proof, prove
from filecheck.told import survivors
from soaklib.readers import Readers
from soaklib.samples import Samples
from soaklib.shapes import Shapes
from soaklib.stage import Stage
from soaklib.strikes import Strikes
from soaklib.told import Told
from soaklib.writers import EMPTIED, PINNED, Writers

#: The part of the time, from and to, in which the daemon itself is spared, so that one life of it can be measured.
SPARED = (0.4, 0.9)
WRITERS, LOOKERS = 7, 3


class Outcome(NamedTuple):
    """What a soak did and found."""

    seed: int
    rows: list[Row]
    proof: Proof

    @property
    def wrong(self) -> list[str]:
        """Everything that must not be."""
        return self.proof.wrong


class Soak:
    """Runs for `seconds` in an empty directory. The same seed gives the same requests and strikes, at other moments."""

    def __init__(self, directory: Path, seconds: float, seed: int) -> None:
        dice = random.Random(seed)
        self.directory = directory
        self.seconds = seconds
        self.seed = seed
        # Of this run alone, whatever its seed, in the command line of each of its processes.
        self.mark = f"000{random.SystemRandom().randrange(10**9):09}"
        self.told = Told(directory / "ledger.jsonl")
        self.stage = Stage(directory, self.told)
        shapes = Shapes(random.Random(dice.random()), self.mark, directory / "marks", min(30.0, seconds / 8))
        self.writers = Writers(self.stage, shapes, random.Random(dice.random()), pause_s=0.3)
        self.readers = Readers(self.stage, self.writers, random.Random(dice.random()), pause_s=0.25)
        self.strikes = Strikes(self.stage, random.Random(dice.random()), self.mark, pause_s=min(2.0, seconds / 100))
        self.samples = Samples(self.stage, max(0.5, seconds / 300))
        self._oom_kills = _oom_kills()
        self._others: list[asyncio.Task[None]] = []

    async def run(self) -> Outcome:
        """All of it. Whatever happens, nothing of it is left running."""
        (self.directory / "marks").touch()
        try:
            await self.stage.start()
            await self.stage.start_viewer()
            await self.writers.prepare()
            await self._busy()
        finally:
            for task in self._others:
                task.cancel()
            await asyncio.gather(*self._others, return_exceptions=True)
            await self.stage.close()
            self.told.close()
        proof = await asyncio.to_thread(
            prove, self.directory / "data", self.directory / "ledger.jsonl", self.directory / "marks", self.mark
        )
        return Outcome(self.seed, self._rows(proof), proof)

    async def _busy(self) -> None:
        began = time.monotonic()
        writers = [asyncio.create_task(self.writers.work()) for _ in range(WRITERS)]
        strikes = self._also(self.strikes.strike())
        self._also(self.writers.clean())
        self._also(self.samples.take())
        for _ in range(LOOKERS):
            self._also(self.readers.look())
        self._also(self.readers.browse())
        self._also(self.readers.follow_all())
        for session_id in (*PINNED, *EMPTIED[:2]):
            self._also(self.readers.follow(session_id))
        self._others += writers
        for until, spared in ((SPARED[0], False), (SPARED[1], True), (1, False)):
            self.strikes.spared = spared
            await self._for(until * self.seconds - (time.monotonic() - began))
        self.strikes.over.set()
        await strikes
        self.writers.ending.set()
        await asyncio.gather(*writers)
        await self._settled()
        await self.stage.stop()
        if _oom_kills() > self._oom_kills:
            self.told.tell("out_of_memory")

    def _also(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._others.append(task)
        return task

    async def _for(self, seconds: float) -> None:
        """Time passes, unless one of those at work falls over: that is a mistake of the soak itself."""
        done, _ = await asyncio.wait(self._others, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
            raise RuntimeError("one of those at work has left")

    async def _settled(self) -> None:
        """Tasks whose acknowledgement was lost may still run: wait for them, too."""
        async with asyncio.timeout(300):
            while True:
                # In one answer: between two a task may have gone from the one to the other.
                _, live = await self.stage.ask("GET", f"/tasks?{LIVE}&limit=1")
                if not live["data"]:
                    break
                await asyncio.sleep(0.2)
        for each in survivors(self.mark):
            self.told.complain(f"nothing runs, and {each}")

    def _rows(self, proof: Proof) -> list[Row]:
        """The table: what was done, what it used, what was proved."""
        counts, strikes = self.told.counts, self.strikes.counts
        minutes = self.seconds / 60
        kills = ", ".join(f"{name} {count}" for name, count in sorted(strikes.items()))
        return [
            Row(
                "tasks acknowledged",
                f"{counts['task']:,} in {minutes:.0f} min",
                "each there, each ended with its cause",
                not proof.wrong,
            ),
            Row("strikes", f"{strikes.total():,}: {kills}", "", True),
            Row(
                "read meanwhile",
                self.readers.counted(),
                "no hole, nothing twice",
                not self.told.wrong,
            ),
            Row("proved from the files", proof.counted(), "0 wrong", not proof.wrong),
            *self.samples.rows(1.10 if self.seconds >= 1800 else 1.5),
        ]


def _oom_kills() -> int:
    """How many processes the system has ended for lack of memory."""
    counters = (line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return next((int(value) for name, value in counters if name == "oom_kill"), 0)
