"""What running tasks tell and ask, and what they are answered: the bodies of those requests."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import UNSET, Meta, UnsetType

from agentd.model.ids import CONVERSATION_ID
from agentd.model.requests import Request, at_least_one

#: Bytes that one call may send to a task.
INPUT_CALL_MOST = 64 << 10
_BASE64_MOST = (INPUT_CALL_MOST + 2) // 3 * 4
_BASE64 = {
    "contentEncoding": "base64",
    "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
}


class ReportedUsage(Request, frozen=True, kw_only=True):
    """What a task has asked of a model in its present attempt, all in all."""

    input_tokens: Annotated[int, Meta(ge=0, le=1 << 53)] | UnsetType = UNSET
    output_tokens: Annotated[int, Meta(ge=0, le=1 << 53)] | UnsetType = UNSET
    cost_usd: Annotated[float, Meta(ge=0, le=1e9)] | UnsetType = UNSET
    turns: Annotated[int, Meta(ge=0, le=1 << 53)] | UnsetType = UNSET


class Conversation(Request, frozen=True, kw_only=True):
    """Which conversation with an agent a task goes on with."""

    agent: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,62}$(?!\n)")]
    conversation_id: Annotated[str, Meta(pattern=rf"^{CONVERSATION_ID}$(?!\n)")]


class ProgressReport(Request, frozen=True, kw_only=True):
    """Body of POST /tasks/{id}/progress; at least one field."""

    RULES: ClassVar[dict[str, Any]] = at_least_one(
        progress="number", phase="string", message="string", items_processed="integer", items_failed="integer",
        usage="object", conversation="object",
    )  # fmt: skip

    progress: Annotated[float, Meta(ge=0, le=100)] | None = None
    phase: Annotated[str, Meta(max_length=200)] | None = None
    message: Annotated[str, Meta(max_length=2000)] | None = None
    items_processed: Annotated[int, Meta(ge=0, le=1 << 53)] | None = None
    items_failed: Annotated[int, Meta(ge=0, le=1 << 53)] | None = None
    usage: ReportedUsage | None = None
    conversation: Conversation | None = None


class NewQuestion(Request, frozen=True, kw_only=True):
    """Body of POST /tasks/{id}/ask. The same `ask_id` again is the same question, which goes on waiting."""

    ask_id: Annotated[str, Meta(min_length=1, max_length=100)]
    prompt: Annotated[str, Meta(min_length=1, max_length=8000)]
    options: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...], Meta(max_length=20)] = ()


class NewAnswer(Request, frozen=True, kw_only=True):
    """Body of POST /tasks/{id}/answer; with `ask_id` it answers that question only."""

    answer: Annotated[str, Meta(max_length=32_000)]
    ask_id: Annotated[str, Meta(min_length=1, max_length=100)] | None = None


class NewInput(Request, frozen=True, kw_only=True):
    """Body of POST /tasks/{id}/input: text or base64, the end of the input after it, or both."""

    RULES: ClassVar[dict[str, Any]] = {
        "not": {"required": ["data", "data_base64"]},
        "anyOf": [
            {"required": ["data"], "properties": {"data": {"minLength": 1}}},
            {"required": ["data_base64"], "properties": {"data_base64": {"minLength": 1}}},
            {"required": ["eof"], "properties": {"eof": {"const": True}}},
        ],
    }

    data: Annotated[str, Meta(max_length=INPUT_CALL_MOST)] | UnsetType = UNSET
    data_base64: Annotated[str, Meta(max_length=_BASE64_MOST, extra_json_schema=_BASE64)] | UnsetType = UNSET
    eof: bool = False


class InputTaken(Request, frozen=True, kw_only=True):
    """How many bytes were handed to the task's worker, and how many the task has not taken of all that it was sent."""

    bytes: int
    waiting_bytes: int


class NewSize(Request, frozen=True, kw_only=True):
    """Body of POST /tasks/{id}/terminal: how large it is from now on."""

    rows: Annotated[int, Meta(ge=1, le=10_000)]
    columns: Annotated[int, Meta(ge=1, le=10_000)]
