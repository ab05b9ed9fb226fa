"""A launch, with what every kind takes from the task and its place."""

from __future__ import annotations

from agentd.kinds.protocol import Place
from agentd.model.launch import Launch, ResourceLimits
from agentd.model.task import Task


def launch_of(
    task: Task,
    place: Place,
    *,
    argv: tuple[str, ...],
    env: dict[str, str],
    cwd: str,
    stdin: str | None = None,
    cgroup: str | None = None,
    premade: tuple[str, ...] = (),
    interactive: bool = False,
    tty: bool = False,
    tty_size: tuple[int, int] | None = None,
    limits: ResourceLimits | None = None,
) -> Launch:
    """The launch of the task's current attempt."""
    return Launch(
        attempt_id=task.attempt_id,
        task_id=task.task_id,
        argv=argv,
        env=env,
        cwd=cwd,
        stdin=stdin,
        cgroup=cgroup,
        premade=premade,
        interactive=interactive,
        tty=tty,
        tty_size=tty_size,
        limits=limits or ResourceLimits(),
        timeout_s=task.timeout_s,
        grace_s=place.grace_s,
        max_output_bytes=min(task.max_output_bytes or place.max_output_bytes, place.max_output_bytes),
        log_path=place.log_path,
        index_path=place.index_path,
        result_path=place.result_path,
        max_result_bytes=place.max_result_bytes,
    )
