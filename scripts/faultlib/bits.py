"""Bits flipped in the files of a data directory: each one through the store, a sample through real daemons."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from time import time
from typing import Any

from agentd.http.tokens import TokenFile
from faultlib.report import Report
from tests.daemon.harness import RealDaemon, until
from tests.store.bits import MAY_BECOME, Flips, with_bit_flipped

#: Files of the data directory itself.
OWN = ("format.json", "agent.json", "token", "tokens.json")


def run(directory: Path, quick: bool) -> Report:
    """Flip every bit (with `quick`, each 50th) of one file of each kind, and some under real daemons."""
    flips = Flips()
    wrong: list[str] = []
    count = 0
    for kind, path in flips.files().items():
        for bit in range(0, flips.bits(path), 50 if quick else 1):
            count += 1
            try:
                if (became := flips.flip(path, bit)) not in MAY_BECOME[kind]:
                    wrong.append(f"{kind}, bit {bit}: {became}")
            except Exception as error:
                wrong.append(f"{kind}, bit {bit}: {error!r}")
    rotten = 0
    for seed in range(1 if quick else 5):
        own = directory / str(seed)
        own.mkdir()
        under = UnderDaemon(own, random.Random(seed))
        wrong += under.sessions(8 if quick else 40)
        wrong += under.own_files(1 if quick else 10)
        rotten += under.tried
    return Report("bits", f"{count:,} bits flipped through the store, {rotten:,} under a real daemon", wrong)


class UnderDaemon:
    """A real daemon whose files rot while it is stopped."""

    def __init__(self, directory: Path, chance: random.Random) -> None:
        self.daemon = RealDaemon(directory / "data", workers={"min": 2, "max": 4})
        self.daemon.data_dir.mkdir(mode=0o700)
        self.chance = chance
        self.tried = 0
        self.became: Counter[str] = Counter()

    def sessions(self, count: int) -> list[str]:
        """Flip one bit in each of so many sessions, and none in one more; what was wrong after the next start."""
        daemon = self.daemon.start()
        try:
            names = [f"s{n}" for n in range(count + 1)]
            tasks = [daemon.shell(name, f"echo {n}")["task_id"] for name in names for n in range(2)]
            for task_id in tasks:
                daemon.wait(task_id)
            TokenFile(daemon.data_dir).create("one", "viewer", time())
            before = {name: self._shown(name) for name in names}
            assert daemon.stop() == 0
            rotten = {name: self._rot(name, n) for n, name in enumerate(names[1:])}
            daemon.start()
            wrong = [f"{rotten.get(name)}: {text}" for name in names if (text := self._compared(name, before[name]))]
            if self._shown(names[0]) != before[names[0]]:
                wrong.append("a session without rot is not as it was")
            if "Traceback" in daemon.log_text():
                wrong.append("the daemon's log has a traceback")
            daemon.stop()
            return wrong
        finally:
            daemon.end()

    def own_files(self, each: int) -> list[str]:
        """Flip a bit in each of the daemon's own files, so many times; what was wrong about the start after it."""
        wrong = []
        for name in OWN:
            path = self.daemon.data_dir / name
            for _ in range(each):
                if not path.exists():
                    continue
                sound = path.read_bytes()
                bit = self._flip(path)
                try:
                    wrong += [f"{name}, bit {bit}: {text}" for text in self._start()]
                finally:
                    self.daemon.end()
                    path.write_bytes(sound)
        return wrong

    def _start(self) -> list[str]:
        """It serves, or says in its log why not."""
        daemon = self.daemon
        agent = daemon.data_dir / "agent.json"
        before, told = agent.read_bytes(), len(daemon.log_text())
        daemon.start(ready=False)
        until(lambda: daemon.ended() or agent.read_bytes() != before)
        text = daemon.log_text()[told:]
        if "Traceback" in text:
            return ["a traceback"]
        return ["it ended without a word"] if daemon.ended() and not text.strip() else []

    def _rot(self, name: str, n: int) -> str:
        session = self.daemon.data_dir / "sessions" / name
        kinds = (
            "metadata.json",
            "tasks.json",
            "history/events-*.jsonl",
            "history/0*.json",
            "output/*.log",
            "output/*.idx",
        )
        kind = kinds[n % len(kinds)]
        path = self.chance.choice(sorted(session.glob(kind)))
        return f"{path.relative_to(session)}, bit {self._flip(path)}"

    def _flip(self, path: Path) -> int:
        self.tried += 1
        data = path.read_bytes()
        bit = self.chance.randrange(len(data) * 8)
        path.write_bytes(with_bit_flipped(data, bit))
        return bit

    def _shown(self, name: str) -> dict[str, Any]:
        daemon = self.daemon
        session = daemon.get(f"/sessions/{name}")
        events = daemon.request("GET", f"/sessions/{name}/events")
        return {
            "tasks": session.pop("tasks"),
            "session": {key: session[key] for key in ("state", "counts", "reason")},
            "events": events.json.get("data"),
            "refused": events.json.get("detail"),
            "history": len(daemon.get(f"/sessions/{name}/history")["data"]),
        }

    def _compared(self, name: str, before: dict[str, Any]) -> str | None:
        """What may not be about a session after the start; None: nothing."""
        now = self._shown(name)
        lines = [
            self.daemon.request("GET", f"/tasks/{t['task_id']}/output/lines?line=0&count=5") for t in before["tasks"]
        ]
        if any(answer.status >= 500 for answer in lines):
            return "its output is not served"
        if now["session"]["state"] == "damaged":
            return None if now["session"]["reason"] else "damaged, and it is not said how"
        if now["events"] is None:
            return None if now["refused"] else "its events are not served, and it is not said why"
        told = now["events"]
        if told[: len(before["events"])] != before["events"] and before["events"][: len(told)] != told:
            return "its events are not those that were"
        if len(told) >= len(before["events"]) and now["tasks"] != before["tasks"]:
            return "its tasks are not those that were"
        return None
