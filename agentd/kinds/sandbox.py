"""The sandbox of a task: a command line of bubblewrap in front of the program's own. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta

from agentd.errors import Invalid
from agentd.kinds.protocol import Place
from agentd.kinds.specs import Problems
from agentd.model.facts import Facts
from agentd.model.requests import Request

#: Processes, users, IPC and names of its own, no privilege, and an end with whoever started it.
_APART = ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
_BARE = ("--die-with-parent", "--cap-drop", "ALL")
#: Names are looked up with what systemd-resolved leaves here.
_RESOLVER = "/run/systemd/resolve"


class Bubblewrap(Request, frozen=True, kw_only=True):
    """A sandbox by bubblewrap."""

    type: Annotated[Literal["bubblewrap"], Meta(description="What makes it.")] = "bubblewrap"
    network: Annotated[bool, Meta(description="Let it use the network of this machine.")] = False


Sandbox = Literal["bubblewrap"] | Bubblewrap


def check(wrong: Problems, sandbox: Sandbox | None, facts: Facts) -> None:
    """A sandbox that cannot be had here is a problem of the spec."""
    if sandbox is not None and not facts.sandbox:
        wrong.add("sandbox", facts.sandbox_problem)


def prefix(
    sandbox: Sandbox,
    facts: Facts,
    place: Place,
    cwd: str,
    *,
    directories: Sequence[str] = (),
    files: Sequence[str] = (),
) -> tuple[str, ...]:
    """What to put in front of an argv; it may write to the session's workspace and artifacts, and to what is named.

    Whatever else there is of the daemon's data is not there inside, and the rest of the file system is read-only.

    Raises:
        Invalid: the system has no such sandbox any more.
    """
    if not facts.sandbox:
        raise Invalid.field("spec.sandbox", facts.sandbox_problem)
    network = not isinstance(sandbox, str) and sandbox.network
    words = [*options(facts, network=network)]
    for path in place.private:
        words += ("--tmpfs", path)
    for path in (place.workspace, place.artifacts, *directories, *files):
        words += ("--bind", path, path)
    for path in place.private:
        words += ("--remount-ro", path)
    return (*facts.sandbox, *words, "--chdir", cwd, *facts.sandbox_end)


def known_inside(env: Mapping[str, str]) -> dict[str, str]:
    """The environment without the way to the daemon: by it, a task could submit another without a sandbox."""
    return {name: value for name, value in env.items() if name not in ("AGENTD_URL", "AGENTD_TOKEN")}


def options(facts: Facts, *, network: bool = False) -> tuple[str, ...]:
    """What every sandbox is: bubblewrap's options but for what a task may write to."""
    words = [*_APART, *(() if network else ("--unshare-net",)), *_BARE]
    words += ("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc")
    for path in facts.sandbox_private:
        words += ("--tmpfs", path)
    if network:
        words += ("--ro-bind-try", _RESOLVER, _RESOLVER)
    return tuple(words)
