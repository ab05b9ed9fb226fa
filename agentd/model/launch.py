"""What engines execute and what they report back; it knows nothing of sessions."""

from __future__ import annotations

from enum import StrEnum

from agentd.model.task import Usage, Value


class ResourceLimits(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of each process of a launch (setrlimit); `None` is the daemon's own.

    In a cgroup, those of memory, processes and cpus are of all its processes together.
    """

    memory_bytes: int | None = None
    cpu_s: int | None = None
    files: int | None = None
    processes: int | None = None  #: of all of the user together, unless the launch has a cgroup
    cpus: float | None = None  #: how many processors' time; of a cgroup only


class Launch(Value, frozen=True, kw_only=True):
    """What can be executed; paths are absolute, `env` is the whole environment."""

    attempt_id: str  #: `<task_id>.<attempt>`: the identity of one execution, launched at most once
    task_id: str
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    stdin: str | None = None
    cgroup: str | None = None  #: where a cgroup is made for it; the limits of memory, cpus and processes are then its
    premade: tuple[str, ...] = ()  #: files that are there, empty, before it starts
    interactive: bool = False  #: its input stays open after `stdin`, for what is sent to it while it runs
    tty: bool = False
    tty_size: tuple[int, int] | None = None  #: rows and columns of the terminal
    limits: ResourceLimits = ResourceLimits()
    timeout_s: float | None = None
    grace_s: float = 5.0
    max_output_bytes: int | None = None
    log_path: str
    index_path: str
    result_path: str
    max_result_bytes: int = 256 << 10
    may_leave_container: bool = False  #: what it does in a container engine may outlive its processes


class EndedBy(StrEnum):
    """What ended an attempt."""

    EXIT = "exit"  #: its own exit or a signal of somebody else
    STOPPED = "stopped"  #: the engine was asked to stop it
    TIMEOUT = "timeout"
    OUTPUT_LIMIT = "output_limit"
    OUT_OF_MEMORY = "out_of_memory"
    SPAWN_FAILED = "spawn_failed"
    WORKER_LOST = "worker_lost"


class Exit(Value, frozen=True, kw_only=True):
    """How an attempt ended. When it is known, the whole process tree is gone."""

    ended_by: EndedBy
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""
    pid: int | None = None
    pid_started_at: int | None = None
    duration_s: float | None = None
    usage: Usage | None = None
    output_bytes: int = 0
    result: str | None = None  #: text of the result file, if the task wrote one
    leftovers: int = 0  #: processes that outlived the first one and were ended


class Capacity(Value, frozen=True, kw_only=True):
    """How much the engine can run."""

    max: int
    busy: int
    idle: int
    starting: int
    restarts: int
    degraded: bool
