"""What people give running tasks to read: handed to the worker at once, and never recorded, as it may be secret."""

from __future__ import annotations

import base64
import binascii
from typing import Protocol

from msgspec import UNSET

from agentd.errors import Conflict, InputFull, Invalid, InvalidTransition
from agentd.model.reports import INPUT_CALL_MOST, InputTaken, NewInput, NewSize
from agentd.model.task import Task
from agentd.service.questions import Questions


class Stdin(Protocol):
    """Who has the inputs and terminals of the attempts; an engine is one."""

    def input(self, attempt_id: str, data: bytes, *, eof: bool) -> int:
        """Hand over what an attempt is to read."""

    def resize(self, attempt_id: str, rows: int, columns: int) -> None:
        """Change the size of an attempt's terminal."""


class Inputs(Questions):
    """Write to a task, resize its terminal."""

    stdin: Stdin

    async def input(self, task_id: str, new: NewInput) -> InputTaken:
        """Hand a running task what it is to read; in the order of the calls.

        Raises:
            TaskNotFound, SessionReadOnly, StorageFailed
            InvalidTransition: the task is not running.
            Conflict: it is not interactive, or its input is closed.
            InputFull: it does not read what it was given before.
            Invalid: there is nothing to hand over, too much, or it is no base64.
        """
        data = _bytes(new)
        _, task = await self.find_running(task_id, "has an input")
        try:
            waiting = self.stdin.input(task.attempt_id, data, eof=new.eof)
        except KeyError:
            raise _not_there(task) from None
        except (Conflict, InputFull) as error:
            raise type(error)(f"task {task_id}: {error.detail}") from None
        return InputTaken(bytes=len(data), waiting_bytes=waiting)

    async def resize(self, task_id: str, size: NewSize) -> Task:
        """Change the size of a running task's terminal.

        Raises:
            TaskNotFound, SessionReadOnly, StorageFailed
            InvalidTransition: the task is not running.
            Conflict: it has no terminal that can be resized.
        """
        _, task = await self.find_running(task_id, "has an input")
        try:
            self.stdin.resize(task.attempt_id, size.rows, size.columns)
        except KeyError:
            raise _not_there(task) from None
        except Conflict as error:
            raise Conflict(f"task {task_id}: {error.detail}") from None
        return task


def _not_there(task: Task) -> InvalidTransition:
    return InvalidTransition(f"task {task.task_id} is about to start, or to end; try again in a moment")


def _bytes(new: NewInput) -> bytes:
    if new.data is not UNSET and new.data_base64 is not UNSET:
        raise Invalid.field("data", "is given beside data_base64; use one of the two")
    data, field = b"", "data"
    if new.data is not UNSET:
        data = new.data.encode()
    elif new.data_base64 is not UNSET:
        field = "data_base64"
        try:
            data = base64.b64decode(new.data_base64, validate=True)
        except (binascii.Error, ValueError) as error:
            raise Invalid.field(field, f"is no base64: {error}") from None
    if len(data) > INPUT_CALL_MOST:
        raise Invalid.field(field, f"must not be longer than {INPUT_CALL_MOST} bytes; send the rest in further calls")
    if not data and not new.eof:
        raise Invalid.field("data", "say what it is to read: data, data_base64 or eof")
    return data
