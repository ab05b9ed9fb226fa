"""Tasks and sessions as tables."""

from __future__ import annotations

from agentd.cli import wording
from agentd.cli.printing import Column, Look, Printer, facts, write_line
from agentd.clock import epoch
from agentd.model.budget import reached, spent
from agentd.model.requests import SessionView
from agentd.model.session import Budget
from agentd.model.task import State, Task


def took(task: Task, look: Look) -> float | None:
    """Seconds a task ran; until now, while it runs."""
    if task.state is State.RUNNING and task.started_at is not None:
        return look.now - epoch(task.started_at)
    return task.duration_s


TASKS = (
    Column[Task]("ID", lambda task, look: task.task_id),
    Column[Task]("SESSION", lambda task, look: task.session_id),
    Column[Task]("STATE", lambda task, look: wording.state(task), state=True),
    Column[Task]("CAUSE", lambda task, look: wording.cause(task)),
    Column[Task]("CREATED", lambda task, look: look.when(task.created_at)),
    Column[Task]("TOOK", lambda task, look: wording.duration(took(task, look)), right=True),
    Column[Task]("WHAT", lambda task, look: task.name or wording.command(task)),
)

SESSIONS = (
    Column[SessionView]("SESSION", lambda session, look: session.session_id),
    Column[SessionView]("STATE", lambda session, look: session.state + (" archived" if session.archived else "")),
    Column[SessionView]("TASKS", lambda session, look: counts(session)),
    Column[SessionView]("UPDATED", lambda session, look: look.when(session.updated_at)),
    Column[SessionView]("LABELS", lambda session, look: labels(session.labels)),
    Column[SessionView]("TITLE", lambda session, look: session.title or ""),
)


def counts(session: SessionView) -> str:
    """How many tasks are in which state."""
    return ", ".join(f"{number} {state}" for state, number in session.counts.items() if number)


def labels(given: dict[str, str]) -> str:
    """Labels as one types them."""
    return ",".join(f"{key}={value}" for key, value in sorted(given.items()))


def task_facts(task: Task, look: Look) -> None:
    """All that matters of one task."""
    why = f": {task.cause.message} ({task.cause.code})" if task.cause is not None else ""
    progress = "" if task.progress is None else f"{task.progress:.0f}%"
    facts(
        [
            ("task", task.task_id),
            ("session", task.session_id),
            ("name", task.name or ""),
            ("what", wording.command(task)),
            ("state", wording.state(task) + why),
            ("progress", "  ".join(part for part in (progress, task.phase, task.message) if part)),
            ("asks", "" if task.awaiting is None else wording.question(task.awaiting)),
            ("answered", "" if task.answered is None else f"{task.answered.answer} (by {task.answered.by})"),
            ("queue", task.queue if task.queue != "default" or not task.terminal else ""),
            ("priority", str(task.priority or "")),
            ("needs", ", ".join(task.needs)),
            ("labels", labels(task.labels)),
            ("not before", look.when_long(task.not_before) if not task.terminal else ""),
            ("next attempt", look.when_long(task.next_attempt_at)),
            ("retry of", task.retry_of or ""),
            ("sub-task of", task.parent_id or ""),
            ("created", look.when_long(task.created_at)),
            ("started", look.when_long(task.started_at)),
            ("ended", look.when_long(task.ended_at)),
            ("waited", wording.duration(task.wait_s)),
            ("took", wording.duration(took(task, look))),
            ("result", "" if task.result is None else _json(task.result)),
        ],
        look,
    )
    if task.attempts:
        write_line("")
        Printer("table", headers=True).table(
            task.attempts,
            (
                Column("ATTEMPT", lambda attempt, look: str(attempt.n), right=True),
                Column("STARTED", lambda attempt, look: look.when(attempt.started_at)),
                Column("TOOK", lambda attempt, look: wording.duration(attempt.duration_s), right=True),
                Column("WORKER", lambda attempt, look: attempt.worker_id),
                Column("PID", lambda attempt, look: "" if attempt.pid is None else str(attempt.pid), right=True),
                Column("OUTPUT", lambda attempt, look: wording.size(attempt.output_bytes), right=True),
                Column(
                    "PEAK",
                    lambda attempt, look: wording.size(attempt.usage.max_rss_bytes) if attempt.usage else "",
                    right=True,
                ),
                Column("CPU", lambda attempt, look: _cpu(attempt.usage), right=True),
                Column("MODEL", lambda attempt, look: wording.model(attempt.usage) if attempt.usage else ""),
                Column("CAUSE", lambda attempt, look: attempt.cause.message if attempt.cause else ""),
            ),
            look,
        )


def session_facts(session: SessionView, look: Look) -> None:
    """A session and its tasks."""
    policy = session.policy
    facts(
        [
            ("session", session.session_id),
            ("title", session.title or ""),
            ("state", session.state + (" (archived)" if session.archived else "")),
            ("reason", session.reason or ""),
            ("labels", labels(session.labels)),
            ("owner", session.owner or ""),
            ("tasks", counts(session)),
            ("parallel", str(policy.max_parallel)),
            ("timeout", wording.duration(policy.timeout_s)),
            ("pinned", "yes" if policy.pinned else ""),
            ("used", "" if session.usage is None else wording.used(session.usage)),
            ("budget", "" if policy.budget is None else _budget(session, policy.budget, look)),
            ("conversations", ", ".join(f"{agent} {each}" for agent, each in session.conversations.items())),
            ("created", look.when_long(session.created_at)),
            ("updated", look.when_long(session.updated_at)),
        ],
        look,
    )
    if isinstance(session.tasks, tuple) and session.tasks:
        write_line("")
        columns = [column for column in TASKS if column.title != "SESSION"]
        newest_first = sorted(session.tasks, key=lambda task: task.created_at, reverse=True)
        Printer("table", headers=True).table(newest_first, columns, look)


def _budget(session: SessionView, limits: Budget, look: Look) -> str:
    running = [task for task in session.tasks or () if task.state is State.RUNNING]
    over = reached(limits, spent(session.usage, running, look.now)) is not None
    return wording.budget(limits) + (", used up: nothing more starts" if over else "")


def _cpu(usage: object) -> str:
    user, system = getattr(usage, "user_s", None), getattr(usage, "system_s", None)
    return "" if user is None and system is None else wording.duration((user or 0) + (system or 0))


def _json(value: object) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()
