"""The page of a log, as a browser without scripts and a program have it."""

from __future__ import annotations

from typing import Any

from tests.daemon.harness import RealDaemon

from .viewer import RealViewer


def log_of(task: dict[str, Any], more: str = "") -> str:
    """The address of a task's log."""
    return f"/a/one/s/{task['session_id']}/t/{task['task_id']}/log{more}"


def test_a_log_is_shown_with_its_colours_and_nothing_in_it_is_taken_for_html(
    viewer: RealViewer, daemon: RealDaemon
) -> None:
    task = daemon.shell("s", r"printf '\033[31mred <b>&\nstill\033[0m plain\n'")
    daemon.wait(task["task_id"])
    found = viewer.html(log_of(task))
    assert '<span class="f1">red &lt;b&gt;&amp;</span></div>' in found
    assert '<span class="f1">still</span> plain</div>' in found
    assert viewer.get(log_of(task))["log"]["total_lines"] == 2
