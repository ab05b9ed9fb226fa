"""A task: one unit of work in a session, and all that is known of it. Frozen values."""

from __future__ import annotations

import signal
from enum import StrEnum
from typing import Any

from msgspec import UNSET, Struct, UnsetType


class State(StrEnum):
    """Where a task stands; see transitions.py for what may follow what."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"


TERMINAL = frozenset({State.COMPLETED, State.FAILED, State.TIMEOUT, State.CANCELLED})


class CauseCode(StrEnum):
    """Why a task, or an attempt of it, ended."""

    OK = "ok"
    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    SPAWN_FAILED = "spawn_failed"
    TIMEOUT = "timeout"
    SESSION_TIMEOUT = "session_timeout"
    CANCELLED_BY_USER = "cancelled_by_user"
    SESSION_CANCELLED = "session_cancelled"
    SHUTDOWN = "shutdown"
    INTERRUPTED = "interrupted"
    WORKER_LOST = "worker_lost"
    NO_RESULT = "no_result"
    AGENT_ERROR = "agent_error"
    BUDGET = "budget"
    DEPENDENCY_FAILED = "dependency_failed"
    OUTPUT_LIMIT = "output_limit"
    OUT_OF_MEMORY = "out_of_memory"
    INVALID_SPEC = "invalid_spec"


class OnInterrupt(StrEnum):
    """What becomes of a running task when its daemon dies."""

    FAIL = "fail"
    RETRY = "retry"


class TriggerType(StrEnum):
    """What made the task."""

    MANUAL = "manual"
    SCHEDULE = "schedule"
    API = "api"
    WEBHOOK = "webhook"
    RETRY = "retry"
    WORKFLOW = "workflow"


class Value(Struct, frozen=True, kw_only=True):
    """A frozen value of the model."""


class Cause(Value, omit_defaults=True, frozen=True, kw_only=True):
    """Who or what ended it: a stable code, a sentence, and the exit code or signal where there is one."""

    code: CauseCode
    message: str
    exit_code: int | None = None
    signal: int | None = None
    detail: str | None = None  #: of `agent_error`: a stable word for what went wrong (`kinds/agents/steps.py`)
    retry_at: str | None = None  #: RFC 3339: before this time another attempt is of no use


def signal_name(number: int) -> str:
    """As in SIGKILL; real-time signals have numbers only."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Trigger(Value, frozen=True, kw_only=True):
    """What made the task, and which one of them."""

    type: TriggerType = TriggerType.API
    source: str | None = None


class Retry(Value, frozen=True, kw_only=True):
    """When a failed attempt is followed by another: at most `max` more, after a growing pause in seconds."""

    max: int = 0
    on: tuple[CauseCode, ...] = (CauseCode.EXIT_CODE, CauseCode.SIGNAL, CauseCode.TIMEOUT)
    backoff_s: float = 1.0
    factor: float = 2.0
    max_backoff_s: float = 300.0
    jitter: float = 0.1


class Usage(Value, frozen=True, kw_only=True):
    """What an attempt used: the peak of its largest process in bytes, and processor seconds of the whole tree.

    The rest is what the task itself reported of a model that it asked; it is absent where nothing was.
    """

    max_rss_bytes: int | None = None
    user_s: float | None = None
    system_s: float | None = None
    input_tokens: int | UnsetType = UNSET
    output_tokens: int | UnsetType = UNSET
    cost_usd: float | UnsetType = UNSET
    turns: int | UnsetType = UNSET


class Question(Value, frozen=True, kw_only=True):
    """What a running task asks its user. Without options, any text is an answer."""

    ask_id: str
    prompt: str
    options: tuple[str, ...] = ()
    since: str


class Answer(Value, frozen=True, kw_only=True):
    """What the last question of a task was answered, and whose token did."""

    ask_id: str
    answer: str
    by: str
    at: str


class Attempt(Value, frozen=True, kw_only=True):
    """One execution of a task, numbered from 1."""

    n: int
    worker_id: str
    boot_id: str
    pid: int | None = None
    pid_started_at: int | None = None  #: clock ticks since boot, field 22 of proc(5) stat: with pid, an identity
    started_at: str
    ended_at: str | None = None
    duration_s: float | None = None  #: monotonic
    exit_code: int | None = None
    signal: int | None = None
    cause: Cause | None = None
    usage: Usage | None = None
    output_bytes: int | None = None


class Transition(Value, frozen=True, kw_only=True):
    """One change of state."""

    state: State
    at: str
    attempt: int
    cause: Cause | None = None


class WorkflowStep(Value, frozen=True, kw_only=True):
    """Which step of which run a task is; of a step with a matrix the combination, as `test[python=3.11]`."""

    run_id: str
    step: str


class Task(Value, frozen=True, kw_only=True):
    """One unit of work; the fields are the contract of DESIGN 8."""

    task_id: str
    session_id: str
    kind: str
    spec: dict[str, Any]
    name: str | None = None
    state: State
    cause: Cause | None = None
    priority: int = 0
    queue: str = "default"
    needs: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    trigger: Trigger = Trigger()
    attempt: int = 0
    attempts: tuple[Attempt, ...] = ()
    timeout_s: float | None = None
    retry: Retry | None = None
    on_interrupt: OnInterrupt = OnInterrupt.FAIL
    max_output_bytes: int | None = None
    artifacts: tuple[str, ...] = ()  #: patterns of workspace files that are kept when an attempt ends
    not_before: str | None = None  #: as it was asked for
    next_attempt_at: str | None = None  #: while a retry pauses
    progress: float | None = None
    phase: str | None = None
    message: str | None = None
    items_processed: int | None = None
    items_failed: int | None = None
    result: Any = None
    created_at: str
    queued_at: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    duration_s: float | None = None
    wait_s: float | None = None
    cancel_requested_at: str | None = None
    stop_cause: Cause | None = None  #: the recorded intent to end it; decides over the exit code
    awaiting: Question | None = None
    answered: Answer | None = None  #: the last answer that its present attempt got
    retry_of: str | None = None
    parent_id: str | None = None  #: the task that submitted it with its own token
    depth: int = 0  #: how many tasks submitted one another before it
    workflow: WorkflowStep | None = None  #: it is a step of a run
    transitions: tuple[Transition, ...] = ()
    seq: int = 0

    @property
    def terminal(self) -> bool:
        """Whether it has ended for good."""
        return self.state in TERMINAL

    @property
    def attempt_id(self) -> str:
        """Its latest attempt, as engines and files name it."""
        return f"{self.task_id}.{self.attempt}"
