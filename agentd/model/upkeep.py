"""What upkeep reports: retention, the check of the store, the emergency reset."""

from __future__ import annotations

from agentd.model.task import Value


class CleanupReport(Value, frozen=True, kw_only=True):
    """What retention removed, or (`dry_run`) would remove."""

    dry_run: bool
    sessions: tuple[str, ...]
    tasks: int
    outputs: int
    bytes: int


class CheckFinding(Value, frozen=True, kw_only=True):
    """One thing `check` found; `repaired` says what was done about it."""

    session_id: str | None
    file: str
    problem: str
    repaired: str | None = None


class CheckReport(Value, frozen=True, kw_only=True):
    """What a check of the store read and found."""

    sessions: int
    events: int
    findings: tuple[CheckFinding, ...]


class ResetReport(Value, frozen=True, kw_only=True):
    """What an emergency reset did."""

    cancelled: tuple[str, ...]
    workers_replaced: int
