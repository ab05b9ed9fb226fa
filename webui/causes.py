"""Why a task ended, for people: each cause as a sentence and what to do now. Unknown causes are shown as they are."""

from __future__ import annotations

import signal
from typing import Any, NamedTuple

from webui.words import duration


class Explained(NamedTuple):
    """An end in words."""

    code: str
    sentence: str  #: what ended it
    message: str  #: what the agent says of it, empty where that is nothing more
    remedy: str  #: what to do, empty where nothing is to be done


#: By code, as in docs/operations.md, "States and causes": what ended it, and what to do.
_TEXTS = {
    "ok": ("it did what it was to do", ""),
    "exit_code": ("the command exited with another code than 0", "The end of its log says why. Mend that, then retry."),
    "signal": (
        "a signal that agentd did not send ended it",
        "Somebody, or the system, ended it. Its log may say more.",
    ),
    "spawn_failed": (
        "it could not be started",
        "Look at the program's name, the working directory and the right to both.",
    ),
    "invalid_spec": (
        "what it should run could not be made out of its spec",
        "Submit it anew with a spec that is right.",
    ),
    "timeout": ("it took longer than it may", "Give it a larger timeout_s, or find in the log what it waited for."),
    "session_timeout": (
        "its session took longer than it may",
        "Give the session's policy a larger timeout_s, or fewer tasks.",
    ),
    "cancelled_by_user": ("somebody cancelled it", "Retry makes a new task of it."),
    "session_cancelled": ("somebody cancelled all of its session", "Retry makes a new task of it."),
    "dependency_failed": (
        "something that it needs did not complete",
        "Mend and retry what it needs; then submit this one again, with the new task as its need.",
    ),
    "shutdown": (
        "the daemon was stopped before it ended",
        "Retry it. With on_interrupt: retry it would have been queued again.",
    ),
    "interrupted": (
        "the daemon or its machine died while it ran",
        "See what it had done already, then retry. With on_interrupt: retry it would have been queued again.",
    ),
    "worker_lost": (
        "its worker died or fell silent",
        "Retry it. If it happens again, look at the memory of the machine.",
    ),
    "output_limit": ("it wrote more than it may", "Let it print less, or give it a larger max_output_bytes."),
    "budget": (
        "its session had used up its budget",
        "Give the session's policy a larger budget; the queue goes on by itself.",
    ),
    "out_of_memory": (
        "it was killed while the system was ending processes for lack of memory",
        "Give it more memory, or let fewer tasks run at once.",
    ),
    "agent_error": ("the coding agent reported an error", "The end of its log says which."),
    "no_result": ("the coding agent left without its final record", "The end of its log may say why; then retry."),
}
CODES = tuple(_TEXTS)
#: What exit codes mean by convention of the shell.
_EXIT_REMEDIES = {
    126: "The command was found and cannot be executed: look at its permissions.",
    127: "The command was not found: look at its spelling and at PATH.",
}
_SIGNAL_REMEDIES = {
    "SIGKILL": "Somebody killed it, or the system did for lack of memory.",
    "SIGSEGV": "The program crashed: it used memory that was not its own.",
    "SIGABRT": "The program gave itself up; its log says why.",
}


def explained(task: dict[str, Any]) -> Explained | None:
    """Why a task, or an attempt, ended; None while nothing has ended it. Takes any shape of `cause`."""
    cause = task.get("cause")
    if cause is None:
        return None
    if not isinstance(cause, dict):
        return Explained(str(cause), _sentence(str(cause)), "", "")
    code, message = str(cause.get("code") or ""), str(cause.get("message") or "")
    if code not in _TEXTS:
        unsaid = "it ended, and the agent does not say why"
        return Explained(code, _sentence(code.replace("_", " ") or unsaid), _sentence(message), "")
    sentence, remedy = _TEXTS[code]
    exit_code, number = cause.get("exit_code"), cause.get("signal")
    if code == "exit_code" and isinstance(exit_code, int):
        sentence = f"the command exited with code {exit_code}"
        remedy = _EXIT_REMEDIES.get(exit_code) or _of_shell(exit_code) or remedy
    elif code == "signal" and isinstance(number, int):
        name = signal_name(number)
        sentence = f"a signal that agentd did not send ended it: {name}"
        remedy = _SIGNAL_REMEDIES.get(name, remedy)
    elif code == "timeout" and isinstance(task.get("timeout_s"), int | float):
        sentence = f"it took longer than it may: {duration(task['timeout_s'])} (timeout_s)"
    said = "" if message.startswith("exited with code") and ";" not in message else message
    return Explained(code, _sentence(sentence), _sentence(said), remedy)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text == "" or text[-1] in ".!?…" else ".")


def _of_shell(exit_code: int) -> str:
    """A shell exits with 128 and the number of the signal that ended what it waited for."""
    if 128 < exit_code <= 128 + 64:
        return f"A process in it was ended by {signal_name(exit_code - 128)}. The end of its log may say why."
    return ""


def signal_name(number: object) -> str:
    """`SIGKILL` for 9, as on Linux; `signal 77` for what has no name."""
    try:
        return signal.Signals(number).name  # type: ignore[arg-type]
    except ValueError:
        return f"signal {number}"


def need_at_fault(task: dict[str, Any]) -> str | None:
    """The need for whose failure a task failed, None when it did not fail for one."""
    cause, needs = task.get("cause"), task.get("needs")
    if not isinstance(cause, dict) or cause.get("code") != "dependency_failed" or not isinstance(needs, list):
        return None
    message = str(cause.get("message"))
    named = [need for need in needs if isinstance(need, str) and need in message]
    return named[0] if named else None
