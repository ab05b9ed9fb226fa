"""Exit codes, and which error means which: the one place that decides."""

from __future__ import annotations

import signal

from agentd.errors import (
    AgentdError,
    AlreadyRunning,
    ConfigInvalid,
    Forbidden,
    FormatTooNew,
    Invalid,
    NotFound,
    Unauthorized,
    Unreachable,
)
from agentd.model.task import State, Task

OK = 0
FAILED = 1  #: a task did not complete, or what was asked could not be done
USAGE = 2  #: the command, a setting or the token is wrong: the same call cannot succeed
UNREACHABLE = 3
NOT_FOUND = 4
TIMED_OUT = 124  #: as timeout(1)
INTERRUPTED = 130  #: as a shell says of SIGINT
TERMINATED = 128 + signal.SIGTERM
PIPE_CLOSED = 128 + signal.SIGPIPE


def code_of(error: AgentdError) -> int:
    """The exit code that an error means."""
    match error:
        case Unreachable():
            return UNREACHABLE
        case NotFound():
            return NOT_FOUND
        case Invalid() | ConfigInvalid() | AlreadyRunning() | FormatTooNew() | Unauthorized() | Forbidden():
            return USAGE
        case _:
            return FAILED


def code_of_task(task: Task) -> int:
    """What `run` exits with: the task's own exit code, 128 + n for signal n, else 1 unless it completed."""
    if task.state is State.COMPLETED:
        return OK
    cause = task.cause
    if task.state is State.FAILED and cause is not None:
        if cause.exit_code:
            return cause.exit_code
        if cause.signal:
            return 128 + cause.signal
    return FAILED
