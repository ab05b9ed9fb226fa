"""Every error agentd raises on purpose.

Each class carries a stable `code`; the sentence is made where the error is raised and names the remedy.
`http/problems.py` turns a code into a status, `client.py` turns it back into the class, `cli/` into an exit code.

    AgentdError
      Invalid            Malformed         WorkflowInvalid
      Unauthorized       Forbidden         RateLimited
      NotFound           SessionNotFound   TaskNotFound   WorkerNotFound   ArtifactNotFound   RouteNotFound
                         RunNotFound
      Conflict           SessionExists     SessionActive  InvalidTransition  IdempotencyConflict  SessionReadOnly
      InputFull
      PreconditionFailed MethodNotAllowed  RequestTimeout  TooLarge  HeadersTooLarge  UriTooLong  UnsupportedMediaType
                         RangeNotSatisfiable
      Unavailable        Draining          QueueFull
      StorageFailed      StorageFull
      AlreadyRunning     ConfigInvalid     FormatTooNew   Unreachable      (never sent over HTTP)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple


class FieldError(NamedTuple):
    """One field of an input that is wrong, and why."""

    field: str
    message: str


class AgentdError(Exception):
    """Something agentd cannot do; `detail` is a sentence for a person, `code` is for programs."""

    code: ClassVar[str] = "internal"

    def __init__(self, detail: str, *, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)


class Invalid(AgentdError):
    """The input is understood and breaks a rule; `errors` names each field."""

    code = "invalid"

    @classmethod
    def field(cls, field: str, message: str) -> Invalid:
        """One wrong field."""
        return cls(f"{field}: {message}", errors=[FieldError(field, message)])


class Malformed(Invalid):
    """The input cannot be read at all: not JSON, a bad cursor, an unknown query parameter."""

    code = "malformed"


class SourceProblem(NamedTuple):
    """Something wrong in a text: line and column from 1, the path of the part, and a sentence with the remedy."""

    line: int
    column: int
    path: str
    message: str


class WorkflowInvalid(Invalid):
    """A workflow cannot be run as it is written; `problems` has all that is wrong, in the order of the text."""

    code = "workflow_invalid"

    def __init__(
        self, detail: str, *, errors: Sequence[FieldError] = (), problems: Sequence[SourceProblem] = ()
    ) -> None:
        super().__init__(detail, errors=errors)
        self.problems = tuple(problems)

    @classmethod
    def of(cls, detail: str, problems: Sequence[SourceProblem]) -> WorkflowInvalid:
        """These problems, named as fields too."""
        errors = [FieldError(each.path, f"line {each.line}, column {each.column}: {each.message}") for each in problems]
        return cls(detail, errors=errors, problems=problems)


class Unauthorized(AgentdError):
    """No token, or one that is not known."""

    code = "unauthorized"


class Forbidden(AgentdError):
    """The token is known and its role does not allow this."""

    code = "forbidden"


class RateLimited(AgentdError):
    """Too many failed attempts; wait."""

    code = "rate_limited"


class NotFound(AgentdError):
    """What was named does not exist."""

    code = "not_found"


class SessionNotFound(NotFound):
    """No session has this id."""

    code = "session_not_found"


class TaskNotFound(NotFound):
    """No task has this id."""

    code = "task_not_found"


class RunNotFound(NotFound):
    """No run of a workflow has this id."""

    code = "run_not_found"


class WorkerNotFound(NotFound):
    """No worker has this id."""

    code = "worker_not_found"


class ArtifactNotFound(NotFound):
    """The session has no such artifact."""

    code = "artifact_not_found"


class RouteNotFound(NotFound):
    """The API has no such path."""

    code = "route_not_found"


class Conflict(AgentdError):
    """The state of things forbids it now."""

    code = "conflict"


class SessionExists(Conflict):
    """A session has this id already."""

    code = "session_exists"


class SessionActive(Conflict):
    """The session has tasks that are not terminal."""

    code = "session_active"


class InvalidTransition(Conflict):
    """The task is in a state from which this step is not legal."""

    code = "invalid_transition"


class IdempotencyConflict(Conflict):
    """The Idempotency-Key was used before with another body."""

    code = "idempotency_conflict"


class SessionReadOnly(Conflict):
    """The session's journal is damaged or its disk failed; it is shown, not changed."""

    code = "session_read_only"


class InputFull(AgentdError):
    """A task does not read what it was given."""

    code = "input_full"


class PreconditionFailed(AgentdError):
    """If-Match names a version that is no longer current."""

    code = "precondition_failed"


class MethodNotAllowed(AgentdError):
    """The path exists and does not take this method."""

    code = "method_not_allowed"


class RequestTimeout(AgentdError):
    """The request did not come whole in time."""

    code = "request_timeout"


class TooLarge(AgentdError):
    """The body is over the limit."""

    code = "too_large"


class HeadersTooLarge(AgentdError):
    """The headers are over the limit."""

    code = "headers_too_large"


class UriTooLong(AgentdError):
    """The path and query are over the limit."""

    code = "uri_too_long"


class UnsupportedMediaType(AgentdError):
    """The body is not of a type this route reads."""

    code = "unsupported_media_type"


class RangeNotSatisfiable(AgentdError):
    """The Range lies outside the file."""

    code = "range_not_satisfiable"


class Unavailable(AgentdError):
    """Not now; try again."""

    code = "unavailable"


class Draining(Unavailable):
    """The daemon is stopping and starts nothing new."""

    code = "draining"


class QueueFull(Unavailable):
    """A limit on sessions or unfinished tasks is reached."""

    code = "queue_full"


class StorageFailed(AgentdError):
    """The disk refused a write; nothing was acknowledged."""

    code = "storage_failed"


class StorageFull(StorageFailed):
    """The disk is full; nothing was acknowledged, and writing resumes when there is room."""

    code = "storage_full"


class AlreadyRunning(AgentdError):
    """Another daemon owns this data directory."""

    code = "already_running"


class ConfigInvalid(AgentdError):
    """A setting is unknown or has a wrong value."""

    code = "config_invalid"


class FormatTooNew(AgentdError):
    """The data directory was written by a newer agentd."""

    code = "format_too_new"


class Unreachable(AgentdError):
    """No daemon answers at the address."""

    code = "unreachable"


def by_code() -> dict[str, type[AgentdError]]:
    """Every error class by its code."""
    found: dict[str, type[AgentdError]] = {}
    todo: list[type[AgentdError]] = [AgentdError]
    while todo:
        cls = todo.pop()
        found[cls.code] = cls
        todo.extend(cls.__subclasses__())
    return found
