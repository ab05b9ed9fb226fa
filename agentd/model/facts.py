"""What this system can do for tasks beyond running them, as it was found at the daemon's start."""

from __future__ import annotations

from agentd.model.task import Value


class Facts(Value, frozen=True, kw_only=True):
    """Each is empty where the system has it not; then the sentence beside it says why, and what helps."""

    sandbox: tuple[str, ...] = ()  #: the beginning of the command line that starts bubblewrap
    sandbox_end: tuple[str, ...] = ()  #: what stands between its options and the program
    sandbox_private: tuple[str, ...] = ()  #: directories that are another, empty one inside
    sandbox_problem: str = "bubblewrap was not looked for"
    cgroup: str = ""  #: the directory in which each attempt gets a cgroup of its own
    cgroup_problem: str = "no delegated cgroup was looked for"
