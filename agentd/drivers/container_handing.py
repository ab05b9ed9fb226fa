"""What a container hands on: files of its attempt that it sees and writes to, with an engine on this machine.

A container may run as any user: the files may be written by all, in a directory that the daemon's user alone may enter.
"""

from __future__ import annotations

import contextlib
import os
import sys

import msgspec

from agentd.drivers.container_engine import Away, Engine, Refused
from agentd.engines.local import evidence
from agentd.kinds.containers import LEFT, Assignment, Bind, Record


class Handing:
    """The files of one attempt. `told` is the assignment with them."""

    def __init__(self, assignment: Assignment, engine: Engine) -> None:
        self.told = assignment
        self._elsewhere = bool(assignment.handed) and not engine.local
        if assignment.handed and engine.local:
            binds = tuple(Bind(source=each.source, target=each.target) for each in assignment.handed)
            env = {each.variable: each.target for each in assignment.handed}
            self.told = msgspec.structs.replace(
                assignment, mounts=(*assignment.mounts, *binds), env={**assignment.env, **env}
            )

    def prepare(self) -> str:
        """Open the files to the container; what is to be said of it.

        Raises:
            Refused: the container was to be given them, and cannot be.
        """
        if self._elsewhere:
            if self.told.must_hand_over:
                raise Refused("hand_over needs an engine that sees this machine's files (unix://); leave it out")
            return "the container engine is elsewhere: what the container does cannot be handed on"
        for each in self.told.handed:
            if os.path.isfile(each.source):
                os.chmod(each.source, 0o666)  # noqa: S103 - nobody else can reach it
        return ""

    def blamed(self, error: Refused) -> Refused:
        """The engine's refusal of the container, with what may be at its bottom."""
        if isinstance(error, Away) or self._elsewhere or not self.told.handed:
            return error
        return Refused(f"{error}; if the engine does not see this machine's files, hand_over: false leaves ours out")

    def taken(self, record: Record) -> Record:
        """The record, with what the container wrote as its result, unless that is too large."""
        path = next((each.source for each in self.told.handed if each.source.endswith(LEFT)), None)
        if path is None or self._elsewhere:
            return record
        most = self.told.max_result_bytes
        text, problem = evidence.result(path, most)
        if text and len(msgspec.json.encode(full := msgspec.structs.replace(record, left=text))) <= most:
            return full
        if text or problem:
            _complain(problem or f"the result was not kept: with it, the task's is over {most} bytes")
        return record

    def clear(self) -> None:
        """Remove what was taken over into the record."""
        for each in self.told.handed:
            if each.source.endswith(LEFT):
                with contextlib.suppress(OSError):
                    os.unlink(each.source)


def _complain(what: str) -> None:
    sys.stderr.write(f"agentd: {what}\n")
