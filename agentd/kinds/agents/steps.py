"""What an agent CLI does, step by step, whatever CLI it is; and why one did not succeed."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from agentd.model.task import Value


class Detail(StrEnum):
    """Why an agent did not succeed: the stable word beside the cause `agent_error`."""

    API_ERROR = "api_error"  #: the model's service refused or failed
    RATE_LIMIT = "rate_limit"  #: it allows no more now; `retry_at` where it said when
    NOT_LOGGED_IN = "not_logged_in"  #: no credentials, or such as were refused
    MAX_TURNS = "max_turns"  #: the turns that the task allowed are used up
    PERMISSION_DENIED = "permission_denied"  #: a tool call was refused, and it ended over that
    CONVERSATION_NOT_FOUND = "conversation_not_found"  #: it does not know the conversation it was to continue
    REFUSED = "refused"  #: the model declined to answer
    STALLED = "stalled"  #: it said nothing for `stall_s` and was ended
    INTERRUPTED = "interrupted"  #: it was told to stop in the middle of a turn
    NOT_FOUND = "not_found"  #: the CLI is not installed; its cause is `spawn_failed`
    EXECUTION = "execution"  #: any other failure that it reports itself


class Said(Value, frozen=True):
    """Words of the agent."""

    text: str


class Tool(Value, frozen=True):
    """It calls a tool."""

    name: str
    summary: str


class Heard(Value, frozen=True):
    """What a tool answered."""

    text: str
    failed: bool = False


class Turn(Value, frozen=True):
    """It asked the model once more; `n` counts from 1."""

    n: int


class Used(Value, frozen=True):
    """Running totals of this attempt; what is None the CLI does not tell."""

    input_tokens: int
    output_tokens: int
    cost_usd: float | None = None


class Conversation(Value, frozen=True):
    """The conversation has this id."""

    id: str


class Ask(Value, frozen=True):
    """It wants to know something, and waits; the answer goes through `Adapter.answer`."""

    id: str
    prompt: str
    options: tuple[str, ...]
    request: dict[str, Any]


class Retrying(Value, frozen=True):
    """The service did not answer; it tries again, at `at` (unix seconds) where it says so."""

    attempt: int
    reason: str
    at: float | None = None


class Final(Value, frozen=True):
    """The CLI's own record of how it ended."""

    ok: bool
    text: str = ""
    detail: Detail | None = None
    message: str = ""
    retry_at: float | None = None  #: unix seconds
    num_turns: int | None = None


Step = Said | Tool | Heard | Turn | Used | Conversation | Ask | Retrying | Final
