"""Finds out what this system can do for tasks: once, at the daemon's start, in a thread."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

from agentd.engines.local import cgroups
from agentd.model.facts import Facts

#: A probe that has not ended after so many seconds has failed.
PROBE_S = 10.0
INSTALL = "on Debian: apt install bubblewrap; then start agentd again"
#: What is private in a sandbox: also where other programs have their sockets, which can be used although read-only.
_PRIVATE = ("/tmp", "/var/tmp", "/run")  # noqa: S108 - names, not files
#: bubblewrap must outlive the stop that ends what it runs, or its end would cut the grace short.
_SIGNALS = "TERM,INT,HUP,QUIT"


def found(options: Callable[[Facts], tuple[str, ...]]) -> Facts:
    """The facts; `options` are those with which bubblewrap is tried."""
    cgroup, cgroup_problem = cgroups.delegated()
    facts = Facts(cgroup=cgroup, cgroup_problem=cgroup_problem)
    program, env = shutil.which("bwrap"), shutil.which("env")
    if program is None or env is None:
        return _without_sandbox(facts, f"bubblewrap (bwrap) is not installed here; {INSTALL}")
    facts = Facts(
        sandbox=(env, f"--ignore-signal={_SIGNALS}", program),
        sandbox_end=("--", env, f"--default-signal={_SIGNALS}"),
        sandbox_private=tuple(path for path in _PRIVATE if os.path.isdir(path) and not os.path.islink(path)),
        sandbox_problem="",
        cgroup=cgroup,
        cgroup_problem=cgroup_problem,
    )
    problem = _problem_with((*facts.sandbox, *options(facts), *facts.sandbox_end, "true"))
    if problem:
        return _without_sandbox(
            facts, f"{program} does not work here, as where user namespaces are forbidden: {problem}"
        )
    return facts


def _problem_with(argv: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_S, cwd="/", check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return said[-1] if said else f"exit code {done.returncode}"


def _without_sandbox(facts: Facts, problem: str) -> Facts:
    return Facts(sandbox_problem=problem, cgroup=facts.cgroup, cgroup_problem=facts.cgroup_problem)
