"""Limits that a task may ask for, and which of them hold here. Pure."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, structs

from agentd.kinds.specs import Problems
from agentd.model.facts import Facts
from agentd.model.launch import ResourceLimits
from agentd.model.requests import Request

#: What helps where the daemon has no cgroups.
REMEDY = "start the daemon with a cgroup of its own (under systemd: Delegate=yes), or leave the limit out"
#: Those that a cgroup holds for the whole task.
OF_A_TREE = ("memory_bytes", "processes", "cpus")


class Limits(Request, frozen=True, kw_only=True, omit_defaults=True):
    """Limits of each process (setrlimit), or of the whole task in a cgroup; what is absent is the daemon's own."""

    memory_bytes: Annotated[
        Annotated[int, Meta(ge=1 << 20, le=1 << 62)] | None, Meta(description="Bytes of address space.")
    ] = None
    cpu_s: Annotated[Annotated[int, Meta(ge=1, le=1 << 31)] | None, Meta(description="Seconds of processor time.")] = (
        None
    )
    files: Annotated[Annotated[int, Meta(ge=3, le=1 << 20)] | None, Meta(description="Files open at once.")] = None
    processes: Annotated[
        Annotated[int, Meta(ge=1, le=1 << 22)] | None, Meta(description="Processes and threads at once.")
    ] = None
    cpus: Annotated[
        Annotated[float, Meta(gt=0, le=10_000)] | None, Meta(description="Processors' time; needs a delegated cgroup.")
    ] = None

    def given(self, names: tuple[str, ...]) -> list[str]:
        """Those of these names that it sets."""
        return [name for name in names if getattr(self, name) is not None]

    def group(self, facts: Facts) -> str | None:
        """Where the task gets a cgroup, if it needs one and the system has it."""
        return facts.cgroup if self.given(OF_A_TREE) and facts.cgroup else None

    def resources(self) -> ResourceLimits:
        """As a launch has them."""
        return ResourceLimits(**structs.asdict(self))


def check(wrong: Problems, limits: Limits, facts: Facts, grouped: tuple[str, ...]) -> None:
    """A limit that a cgroup alone can hold, where there is none, is a problem of the spec."""
    if not facts.cgroup:
        for name in limits.given(grouped):
            wrong.add(f"limits.{name}", f"cannot be held here: {facts.cgroup_problem}; {REMEDY}")
