"""What the end of an attempt means, for every kind: a recorded stop first, then what ended it, then its exit code."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from agentd.kinds.protocol import Outcome
from agentd.model.consequences import stopped_state
from agentd.model.launch import EndedBy, Exit
from agentd.model.reading import UNREADABLE, containers_in, read
from agentd.model.task import Cause, CauseCode, State, Task, signal_name

Record = TypeVar("Record")


def outcome_of(exit: Exit, state: State, cause: Cause, result: Any) -> Outcome:
    """The outcome, which says also what the engine noticed: output that the disk refused, a result too large."""
    if exit.message not in cause.message:
        cause = msgspec.structs.replace(cause, message=f"{cause.message}; {exit.message}")
    return Outcome(state=state, cause=cause, result=result)


def stopped(task: Task, exit: Exit) -> tuple[State, Cause] | None:
    """The end of a task that somebody asked to stop; None when nobody did."""
    intent = task.stop_cause
    if intent is None:
        return None
    cause = msgspec.structs.replace(intent, exit_code=exit.exit_code, signal=exit.signal)
    return stopped_state(intent), cause


def unfinished(task: Task, exit: Exit) -> tuple[State, Cause] | None:
    """The end of an attempt that was not its program's own doing; None when it was."""

    def cause(code: CauseCode, message: str) -> Cause:
        return Cause(code=code, message=message, exit_code=exit.exit_code, signal=exit.signal)

    match exit.ended_by:
        case EndedBy.TIMEOUT:
            limit = "its timeout" if task.timeout_s is None else f"timeout_s ({task.timeout_s:g} s)"
            return State.TIMEOUT, cause(CauseCode.TIMEOUT, f"ran longer than {limit} and was ended")
        case EndedBy.OUTPUT_LIMIT:
            text = f"wrote more than the {exit.output_bytes} bytes of output it may (max_output_bytes) and was ended"
            return State.FAILED, cause(CauseCode.OUTPUT_LIMIT, text)
        case EndedBy.OUT_OF_MEMORY:
            return State.FAILED, cause(
                CauseCode.OUT_OF_MEMORY, "was killed while the system was ending processes for lack of memory"
            )
        case EndedBy.SPAWN_FAILED:
            return State.FAILED, cause(CauseCode.SPAWN_FAILED, exit.message or "could not be started")
        case EndedBy.WORKER_LOST:
            return State.FAILED, cause(CauseCode.WORKER_LOST, exit.message or "its worker was lost")
        case EndedBy.STOPPED:
            return State.FAILED, cause(CauseCode.INTERRUPTED, "was ended by its engine without a recorded reason")
        case EndedBy.EXIT:
            return None


def finished(exit: Exit) -> tuple[State, Cause]:
    """The end of a program that ended by itself, as its exit code or signal tells it."""
    if exit.signal is not None:
        text = f"ended by signal {exit.signal} ({signal_name(exit.signal)})"
        return State.FAILED, Cause(code=CauseCode.SIGNAL, message=text, signal=exit.signal)
    if exit.exit_code:
        text = f"exited with code {exit.exit_code}"
        return State.FAILED, Cause(code=CauseCode.EXIT_CODE, message=text, exit_code=exit.exit_code)
    text = "exited with code 0"
    if exit.leftovers:
        text += f"; {exit.leftovers} processes that it left running were ended"
    return State.COMPLETED, Cause(code=CauseCode.OK, message=text, exit_code=0)


def result(exit: Exit) -> Any:
    """What the task wrote as its result: the JSON value, or `{"text": …}` of what is not JSON."""
    return None if exit.result is None else value_of(exit.result)


def record_of(exit: Exit, shape: type[Record]) -> Record | None:
    """The record that a driver left as its result; None where there is none of this shape."""
    try:
        return None if exit.result is None else read(exit.result, shape)
    except msgspec.MsgspecError:
        return None


def value_of(text: str) -> Any:
    """The JSON value of a text that a task left; `{"text": …}` where it is not JSON, None where there is nothing."""
    if not text.strip():
        return None
    try:
        value = msgspec.json.decode(text)
    except UNREADABLE:
        return {"text": text}
    # As deep as a request may be: it is written wherever the task is shown.
    return {"text": text} if containers_in(value, len(text)) is None else value
