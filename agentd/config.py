"""Settings: defaults < agentd.yaml < AGENTD_* < flags; validated and frozen."""

from __future__ import annotations

from agentd.model.session import Keep, Retention
from agentd.model.task import Value


class Workers(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pool of worker processes."""

    min: int = 2  #: kept ready
    max: int = 100  #: tasks that can run at once
    queues: tuple[str, ...] = ("*",)  #: names of the queues served; * is all
    max_tasks: int = 1000  #: a worker is replaced after so many tasks
    max_restarts: int = 10  #: lost workers within a minute before the pool is degraded and backs off
    heartbeat_s: float = 5.0  #: a busy worker says so this often; silent for three of them, it is lost
    grace_s: float = 5.0  #: from SIGTERM to SIGKILL
    idle_s: float = 30.0  #: a worker beyond `min` leaves after this long idle


class Limits(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of everything a client can make grow."""

    body_bytes: int = 1 << 20
    artifact_bytes: int = 1 << 30
    header_bytes: int = 16 << 10
    sessions: int = 100_000
    live_tasks: int = 100_000  #: not terminal, over all sessions
    live_tasks_per_session: int = 20_000
    output_bytes: int = 10 << 30  #: of one attempt, unless the task says less
    result_bytes: int = 256 << 10
    line_bytes: int = 8 << 10  #: of a log line as shown; the raw log has it all
    sse_clients: int = 2000
    sse_buffer: int = 1000  #: events a slow reader may lag before it is disconnected
    event_ring: int = 10_000  #: events over all sessions that /events can replay
    idempotency_ttl_s: float = 86_400.0
    resident_sessions: int = 256  #: idle sessions whose tasks stay in memory
    journal_bytes: int = 8 << 20  #: of one journal segment
    auth_failures: int = 20  #: a minute and address, then 429


class Http(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the daemon listens."""

    host: str = "127.0.0.1"
    port: int = 8420  #: 0 picks one
    socket: str | None = None  #: path of a unix socket, beside the port
    allow_remote: bool = False  #: must be true to bind anything but loopback
    allowed_hosts: tuple[str, ...] = ()  #: more values of the Host header, beside loopback and `host`
    heartbeat_s: float = 10.0  #: comment on an idle event stream


class Log(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The daemon's own log, on stderr."""

    level: str = "info"
    format: str = "auto"  #: console on a terminal, else json


class Tasks(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every task gets."""

    env_pass: tuple[str, ...] = (
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TZ", "TMPDIR", "TERM",
        "*_PROXY", "*_proxy", "SSL_CERT_*", "PIP_*", "NPM_CONFIG_*", "XDG_*",
    )  #: names of the daemon's own environment that tasks inherit  # fmt: skip


class Settings(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set; each key is documented in agentd.example.yaml and docs/operations.md."""

    data_dir: str = "sessions_data"
    drain_s: float = 10.0  #: what running tasks get at a clean stop
    workers: Workers = Workers()
    retention: Retention = Retention(
        tasks=Keep(max_age_s=90 * 86_400.0, max_count=100_000),
        output=Keep(max_age_s=30 * 86_400.0, max_bytes=20 << 30),
        sessions=Keep(),
    )
    limits: Limits = Limits()
    http: Http = Http()
    log: Log = Log()
    tasks: Tasks = Tasks()
