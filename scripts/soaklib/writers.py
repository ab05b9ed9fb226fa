"""Those who give the daemon work: submit, repeat, cancel, retry, report, delete, and wait for every end."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

from benchlib.daemon import TERMINAL
from filecheck.told import survivors
from soaklib.shapes import Shape, Shapes
from soaklib.stage import Lost, Stage

#: No task of a soak takes longer than this, in seconds, from its creation to its end, however busy the machine is.
OVER_S = 400.0
#: The default of `limits.body_bytes`: a batch of several large tasks would be refused.
BODY_BYTES = 1 << 20
#: Sessions that retention leaves alone, and such as it empties.
PINNED = tuple(f"pinned-{n}" for n in range(3))
EMPTIED = tuple(f"emptied-{n}" for n in range(5))


class Writers:
    """`count` of them at a time, until `ending` is set; they then wait for what they submitted."""

    def __init__(self, stage: Stage, shapes: Shapes, dice: random.Random, pause_s: float) -> None:
        self.stage = stage
        self.ending = asyncio.Event()
        self.recent: list[tuple[str, str]] = []  #: session and task of the latest submitted, for readers
        self.submitted = 0
        self._told = stage.told
        self._shapes = shapes
        self._dice = dice
        self._pause_s = pause_s
        self._brief = 0

    async def prepare(self) -> None:
        """Make the sessions that stay."""
        for name in (*PINNED, *EMPTIED):
            policy = {"max_parallel": self._dice.randint(2, 6), "pinned": name in PINNED}
            await self._create_session(name, policy)

    async def work(self) -> None:
        """One writer."""
        while not self.ending.is_set():
            if self._dice.random() < 0.06:
                await self._brief_session()
            else:
                await self._group(self._dice.choice((*PINNED, *EMPTIED, *EMPTIED)))
            await asyncio.sleep(self._dice.expovariate(1 / self._pause_s))

    async def clean(self) -> None:
        """Retention, again and again."""
        while not self.ending.is_set():
            await asyncio.sleep(self._dice.uniform(2, 10))
            await self._asked("POST", "/admin/cleanup", expected=(200, 503))

    # ------------------------------------------------------------------ groups of tasks

    async def _group(self, session_id: str) -> None:
        """Some tasks, perhaps each needing the one before; every one is waited for."""
        if self._dice.random() < 0.15:
            await self._batch(session_id)
            return
        chain = self._dice.random() < 0.25
        made: list[tuple[str, Shape]] = []
        for _ in range(self._dice.choice([1, 1, 2, 3, 5])):
            shape = self._shapes.next()
            if chain and made:
                shape.body["needs"] = [made[-1][0]]
                shape.expect["codes"] = [*shape.expect["codes"], "dependency_failed"]
            if (task_id := await self._submit(session_id, shape)) is not None:
                made.append((task_id, shape))
        for task_id, shape in made:
            await self._meddle(task_id, shape)
        for task_id, shape in made:
            task = await self._ended(session_id, task_id)
            if task is not None:
                await self._afterwards(session_id, task, shape)

    async def _batch(self, session_id: str) -> None:
        """Several in one request: all of them, or none."""
        shapes = [self._shapes.next() for _ in range(self._dice.randint(2, 12))]
        bodies = [{**shape.body, "session_id": session_id} for shape in shapes]
        while len(json.dumps(bodies)) > BODY_BYTES:
            bodies.pop()
        del shapes[len(bodies) :]
        try:
            status, answer = await self.stage.ask("POST", "/tasks", bodies)
        except Lost:
            return
        if status != 201:
            if status != 503:
                self._told.complain(f"POST of {len(shapes)} tasks was answered {status}: {answer}")
            return
        self.submitted += len(shapes)
        for task, shape in zip(answer["data"], shapes, strict=True):
            self._acknowledged(task, shape.body["spec"]["env"]["SOAK_NONCE"], shape)
        for task in answer["data"]:
            await self._ended(session_id, task["task_id"])

    async def _brief_session(self) -> None:
        """A session with a few tasks, deleted while some of them may still run."""
        self._brief += 1
        name = f"brief-{self._brief}"
        if not await self._create_session(name, {"max_parallel": 3}):
            return
        made = [await self._submit(name, self._shapes.next()) for _ in range(self._dice.randint(0, 4))]
        if made and made[0] is not None and self._dice.random() < 0.5:
            await self._ended(name, made[0])
        self._told.tell("deleting", session_id=name)
        while True:
            try:
                status, _ = await self.stage.ask("DELETE", f"/sessions/{name}?force=true")
            except Lost:
                continue
            if status in (204, 404):
                self._told.tell("deleted", session_id=name)
                return
            if status != 503:
                self._told.complain(f"DELETE of {name} was answered {status}")
                return
            await asyncio.sleep(0.1)

    async def _create_session(self, name: str, policy: dict[str, Any]) -> bool:
        while True:
            try:
                status, _ = await self.stage.ask("POST", "/sessions", {"session_id": name, "policy": policy})
            except Lost:
                continue
            if status == 503:
                await asyncio.sleep(0.1)
                continue
            if status not in (201, 409):  # 409: it was made, and the answer was lost
                self._told.complain(f"POST of session {name} was answered {status}")
                return False
            self._told.tell("session", session_id=name)
            return True

    # ------------------------------------------------------------------ one task

    async def _submit(self, session_id: str, shape: Shape) -> str | None:
        """The id of the task, or None where the answer was lost. With a key it is sent until it is answered."""
        nonce = shape.body["spec"]["env"]["SOAK_NONCE"]
        keyed = self._dice.random() < 0.4
        headers = {"Idempotency_Key": nonce} if keyed else {}
        body = {**shape.body, "session_id": session_id}
        task_id: str | None = None
        sends = 2 if keyed and self._dice.random() < 0.5 else 1
        while sends:
            try:
                status, task = await self.stage.ask("POST", "/tasks", body, **headers)
            except Lost:
                if not keyed:
                    return None
                continue
            if status == 503:
                await asyncio.sleep(0.1)
                continue
            if status == 422 and shape.body.get("needs"):
                return None  # what it needs has failed, or has been pruned
            if status != 201:
                self._told.complain(f"POST of {shape.name} in {session_id} was answered {status}: {task}")
                return None
            if task_id is not None and task["task_id"] != task_id:
                self._told.complain(f"the same key made {task_id} and {task['task_id']}")
            task_id = task["task_id"]
            sends -= 1
            self._acknowledged(task, nonce, shape)
        assert task_id is not None
        self.submitted += 1
        self.recent = [*self.recent[-50:], (session_id, task_id)]
        return task_id

    def _acknowledged(self, task: dict[str, Any], nonce: str, shape: Shape) -> None:
        facts = {"task_id": task["task_id"], "session_id": task["session_id"], "seq": task["seq"], "nonce": nonce}
        self._told.tell("task", **facts, expect=shape.expect)

    async def _meddle(self, task_id: str, shape: Shape) -> None:
        """Cancel it, perhaps, or report its progress."""
        chance = self._dice.random()
        if chance < (0.5 if shape.long else 0.04):
            await asyncio.sleep(self._dice.expovariate(1))
            self._told.tell("cancelling", task_id=task_id)
            await self._asked("POST", f"/tasks/{task_id}/cancel", expected=(200, 202, 404, 409, 503))
        elif chance > 0.8:
            for items in range(1, 4):
                body = {"progress": items * 30, "items_processed": items, "phase": shape.name}
                answer = await self._asked("POST", f"/tasks/{task_id}/progress", body, expected=(200, 404, 409, 503))
                if answer is not None and "items_processed" in answer:
                    facts = {name: answer[name] for name in ("task_id", "session_id", "seq", "items_processed")}
                    self._told.tell("progress", **facts)

    async def _ended(self, session_id: str, task_id: str) -> dict[str, Any] | None:
        """The task when it is terminal; None when it is gone."""
        end = asyncio.get_running_loop().time() + OVER_S
        while True:
            try:
                status, task = await self.stage.ask("GET", f"/tasks/{task_id}/wait?timeout_s=10")
            except Lost:
                continue
            if status == 404:
                if session_id in PINNED:
                    self._told.complain(f"{task_id} was acknowledged and is unknown")
                return None
            if status == 200 and task["state"] in TERMINAL:
                facts = {"task_id": task_id, "session_id": session_id, "state": task["state"], "seq": task["seq"]}
                self._told.tell("end", **facts, code=task["cause"]["code"])
                return dict(task)
            if status not in (200, 503):
                self._told.complain(f"GET of {task_id} was answered {status}")
                return None
            if asyncio.get_running_loop().time() > end:
                self._told.complain(f"{task_id} is {task.get('state')} after {OVER_S:g} s")
                return None
            if status == 503:
                await asyncio.sleep(0.1)

    async def _afterwards(self, session_id: str, task: dict[str, Any], shape: Shape) -> None:
        """See that nothing of it lives; perhaps run it again, or remove what it left."""
        chance = self._dice.random()
        nonce = task["spec"]["env"]["SOAK_NONCE"]
        if chance < 0.3:
            for each in await asyncio.to_thread(survivors, self._shapes.token(nonce)):
                self._told.complain(f"{task['task_id']} is {task['state']}, and {each}")
        if shape.name == "artifact":
            await self._asked("DELETE", f"/sessions/{session_id}/artifacts/{nonce}.txt", expected=(204, 404, 503))
        if chance > 0.93 and not shape.long:
            try:
                status, again = await self.stage.ask("POST", f"/tasks/{task['task_id']}/retry")
            except Lost:
                return
            if status == 201:
                self._acknowledged(again, nonce, shape)
                await self._ended(session_id, again["task_id"])
            elif status not in (404, 409, 503):
                self._told.complain(f"a retry was answered {status}")

    async def _asked(self, method: str, path: str, body: Any = None, *, expected: tuple[int, ...]) -> Any:
        """The answer if it is one of success; None otherwise."""
        try:
            status, answer = await self.stage.ask(method, path, body)
        except Lost:
            return None
        if status not in expected:
            self._told.complain(f"{method} {path} was answered {status}: {str(answer)[:200]}")
        return answer if status < 300 else None
