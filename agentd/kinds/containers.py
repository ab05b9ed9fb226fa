"""What the driver of containers is told and what it leaves, and the labels by which its containers are found again.

Pure: nothing here runs, reads or waits. `drivers/container.py` does, told by an Assignment.
"""

from __future__ import annotations

from enum import StrEnum

from agentd.model.task import Value

#: On every container that a driver makes: whose it is, and of which boot, task and attempt.
AGENT_LABEL, BOOT_LABEL = "agentd.agent", "agentd.boot"
TASK_LABEL, ATTEMPT_LABEL = "agentd.task", "agentd.attempt"

#: What tells Docker's own clients where the engine is and how to trust it; a driver is given the daemon's.
ENGINE_VARIABLES = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")


#: Where a container finds what it hands values on by.
HANDED_AT = "/agentd"
#: Added to the name of the driver's own record: what the container leaves as its result, until the driver takes it.
LEFT = ".left"


class Operation(StrEnum):
    """What to do with a container."""

    RUN = "run"  #: make one, run it to its end, remove it
    START = "start"  #: start one that is there, and follow it to its end
    STOP = "stop"
    LOGS = "logs"


class Pull(StrEnum):
    """When an image is fetched from its registry."""

    MISSING = "missing"
    NEVER = "never"
    ALWAYS = "always"


class Bind(Value, frozen=True, kw_only=True):
    """A file or directory of the host that the container sees; both paths are absolute."""

    source: str
    target: str
    read_only: bool = False


class Handed(Value, frozen=True, kw_only=True):
    """A file or directory of the attempt that the container writes to, and the variable that names it in there."""

    variable: str
    source: str

    @property
    def target(self) -> str:
        """Where the container sees it."""
        return f"{HANDED_AT}/{self.variable.removeprefix('AGENTD_').lower()}"


class Assignment(Value, frozen=True, kw_only=True):
    """All that a driver is told, as JSON on its standard input."""

    operation: Operation
    agent_id: str
    boot_id: str
    task_id: str
    attempt_id: str
    grace_s: float  #: from a stop until everything is killed, the driver too
    image: str = ""
    id: str = ""
    command: tuple[str, ...] = ()
    env: dict[str, str] = {}
    mounts: tuple[Bind, ...] = ()
    network: str = "none"
    memory_bytes: int | None = None
    cpus: float | None = None
    pids: int | None = None
    user: str | None = None
    workdir: str | None = None
    pull: Pull = Pull.MISSING
    tty: bool = False
    follow: bool = False
    handed: tuple[Handed, ...] = ()
    must_hand_over: bool = False  #: an engine elsewhere, which cannot, is refused
    max_result_bytes: int = 256 << 10


class Record(Value, frozen=True, kw_only=True, omit_defaults=True):
    """How it went, as the driver writes it for the kind; first when there is a container, again at the end."""

    container_id: str | None = None
    image: str | None = None
    exit_code: int | None = None
    started: bool = False
    out_of_memory: bool = False
    left: str | None = None  #: text that the container wrote as its result
    problem: str = ""  #: why there is no exit code: a sentence with what to do about it
    gone: bool = False  #: no container of this attempt is left
