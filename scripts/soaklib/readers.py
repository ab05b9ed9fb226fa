"""Those who look: lists, pages of the history, ranges of logs, streams of events, and the viewer's pages."""

from __future__ import annotations

import asyncio
import json
import random
from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from soaklib.stage import Lost, Stage
from soaklib.writers import EMPTIED, PINNED, Writers

#: CRCs in one line of the ledger.
TOLD_AT_ONCE = 200
_PAGES = (
    "/",
    "/history",
    "/queue",
    "/workers",
    "/agents",
    "/analytics",
    "/a/one/s/pinned-0",
    "/api/tasks",
    "/api/sessions",
)


class Readers:
    """They go on until they are cancelled; what they see that cannot be is told."""

    def __init__(self, stage: Stage, writers: Writers, dice: random.Random, pause_s: float) -> None:
        self.reads = self.pages = self.events = 0
        self._stage = stage
        self._told = stage.told
        self._writers = writers
        self._dice = dice
        self._pause_s = pause_s

    def counted(self) -> str:
        """How much was read."""
        return f"{self.reads:,} answers, {self.pages:,} pages of the viewer, {self.events:,} events streamed"

    async def look(self) -> None:
        """Ask for whatever there is to see."""
        while True:
            await asyncio.sleep(self._dice.expovariate(1 / self._pause_s))
            try:
                await self._dice.choice(
                    [self._list, self._walk_history, self._log, self._log_stream, self._consistent]
                )()
                self.reads += 1
            except Lost:
                continue

    async def browse(self) -> None:
        """Pages of the viewer, which must come whatever becomes of the daemon behind it."""
        while True:
            await asyncio.sleep(self._dice.expovariate(0.5 / self._pause_s))
            page = self._dice.choice(_PAGES)
            status = await self._stage.page(page)
            self.pages += status == 200
            if status not in (0, 200, 404, 502, 503, 504):
                self._told.complain(f"the viewer answered {status} to {page}")

    # ------------------------------------------------------------------ lists and logs

    async def _get(self, path: str, **headers: str) -> Any:
        status, answer = await self._stage.ask("GET", path, **headers)
        if status in (404, 409, 503):  # it was pruned or deleted; the daemon drains
            return None
        if status not in (200, 206, 416):
            self._told.complain(f"GET {path} was answered {status}: {str(answer)[:200]}")
            return None
        return answer

    async def _list(self) -> None:
        paths = [
            "/sessions",
            "/tasks",
            "/tasks?state=running",
            "/tasks?state=failed&limit=5",
            "/status",
            "/queue",
            "/workers",
        ]
        paths += ["/metrics", "/tasks?q=sleep&limit=10", f"/sessions/{self._dice.choice(PINNED)}", "/readyz"]
        await self._get(self._dice.choice(paths))

    async def _walk_history(self) -> None:
        """Some pages of a history: newest first, and nothing twice."""
        session_id, seen, cursor = self._dice.choice((*PINNED, *EMPTIED)), set[str](), ""
        for _ in range(4):
            page = await self._get(f"/sessions/{session_id}/history?limit=37{cursor}")
            if page is None:
                return
            names = [task["task_id"] for task in page["data"]]
            if seen & set(names) or len(set(names)) < len(names):
                self._told.complain(f"the history of {session_id} shows a task twice")
            if any(task["state"] not in ("completed", "failed", "timeout", "cancelled") for task in page["data"]):
                self._told.complain(f"the history of {session_id} shows a task that has not ended")
            seen.update(names)
            if page["next"] is None:
                return
            cursor = f"&cursor={page['next']}"

    async def _consistent(self) -> None:
        """What is shown as running runs in this boot."""
        boot_id = self._stage.boot_id
        page = await self._get("/tasks?state=running&limit=1000")
        if page is None or self._stage.boot_id != boot_id or not self._stage.up.is_set():
            return
        for task in page["data"]:
            if task["attempts"][-1]["boot_id"] != boot_id:
                self._told.complain(f"{task['task_id']} is shown as running, in a boot that is over")

    async def _log(self) -> None:
        if not self._writers.recent:
            return
        _, task_id = self._dice.choice(self._writers.recent)
        match self._dice.randrange(3):
            case 0:
                first = self._dice.randrange(5000)
                data = await self._get(f"/tasks/{task_id}/output", Range=f"bytes={first}-{first + 999}")
                if isinstance(data, bytes) and len(data) > 1000 and b"problem" not in data:
                    self._told.complain(f"a range of 1,000 bytes of {task_id} has {len(data)}")
            case 1:
                await self._get(
                    f"/tasks/{task_id}/output/lines?line={self._dice.choice([1, 50, -20])}&count=50&detail=true"
                )
            case 2:
                await self._get(f"/tasks/{task_id}/output/search?q=1&limit=20")

    async def _log_stream(self) -> None:
        """Follow a log to its end: every byte follows the one before."""
        if not self._writers.recent:
            return
        _, task_id = self._dice.choice(self._writers.recent)
        at: tuple[int, int] | None = None
        async with self._stage.answer("GET", f"/tasks/{task_id}/stream") as response:
            if response.status != 200:
                return
            async for event in _events(response):
                if event.kind == "output":
                    piece = json.loads(event.data)
                    size = len(piece["text"].encode()) if "text" in piece else len(b64decode(piece["base64"]))
                    if at is not None and at[0] == piece["attempt"] and piece["offset"] != at[1]:
                        self._told.complain(f"the log of {task_id} jumped from byte {at[1]} to {piece['offset']}")
                    at = (piece["attempt"], piece["offset"] + size)
                elif event.kind == "end":
                    return

    # ------------------------------------------------------------------ events

    async def follow(self, session_id: str) -> None:
        """The events of a session, from the first to the last, through every death of the daemon, without a hole."""
        seen = 0
        while True:
            run = _Run(self, session_id)
            try:
                async with self._stage.answer(
                    "GET", f"/sessions/{session_id}/events", Accept="text/event-stream", Last_Event_ID=str(seen)
                ) as response:
                    if response.status != 200:
                        await asyncio.sleep(0.2)
                        continue
                    async for event in _events(response):
                        seen = self._followed(session_id, event, seen, run)
            except Lost:
                pass
            finally:
                run.tell()

    def _followed(self, session_id: str, event: Event, seen: int, run: _Run) -> int:
        if event.kind == "hello":
            return seen
        if event.kind == "gap":
            gap = json.loads(event.data)
            if gap["reason"] != "pruned" or session_id in PINNED:
                self._told.complain(f"the events of {session_id} have a gap: {gap}")
            run.tell()
            return int(event.id)
        record = json.loads(event.data)
        if "seq" not in record:
            return seen
        if record["seq"] != seen + 1:
            self._told.complain(f"event {seen} of {session_id} was followed by {record['seq']}")
        run.add(record["seq"], record["crc"])
        self.events += 1
        return int(record["seq"])

    async def follow_all(self) -> None:
        """Everything, as it happens: positions within a boot have no hole."""
        while True:
            try:
                async with self._stage.answer("GET", "/events", Accept="text/event-stream") as response:
                    at = 0
                    async for event in _events(response):
                        position = int(event.id.rpartition("-")[2]) if event.id else 0
                        if event.kind not in ("hello", "gap") and position != at + 1:
                            self._told.complain(f"position {at} of all events was followed by {position}")
                        at = position
            except Lost:
                await asyncio.sleep(0.05)


class _Run:
    """Events that follow each other, to be told together."""

    def __init__(self, readers: Readers, session_id: str) -> None:
        self._told = readers._told
        self._session_id = session_id
        self._first = 0
        self._crcs: list[str] = []

    def add(self, seq: int, crc: str) -> None:
        """The next one."""
        if seq != self._first + len(self._crcs):
            self.tell()
            self._first = seq
        self._crcs.append(crc)
        if len(self._crcs) == TOLD_AT_ONCE:
            self.tell()

    def tell(self) -> None:
        """Write down what there is."""
        if self._crcs:
            self._told.tell("events", session_id=self._session_id, seq=self._first, crcs=self._crcs)
        self._first, self._crcs = self._first + len(self._crcs), []


class Event(NamedTuple):
    """One server-sent event."""

    kind: str
    id: str
    data: str


async def _events(response: Any) -> AsyncIterator[Event]:
    """The events of a stream, until it ends."""
    kind = name = ""
    data: list[str] = []
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            field, _, value = line.decode().partition(": ")
            if field == "event":
                kind = value
            elif field == "id":
                name = value
            elif field == "data":
                data.append(value)
            elif not line and kind:
                yield Event(kind, name, "\n".join(data))
                kind, name, data = "", "", []
