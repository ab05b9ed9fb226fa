"""agentd inside a task: it knows the daemon, the session and the task by its environment."""

from __future__ import annotations

import sys

from tests.cli.daemon_process import Agentd

AGENTD = f"{sys.executable} -m agentd.cli.main"


def test_a_task_tells_how_far_it_is(agentd: Agentd) -> None:
    script = (
        f"{AGENTD} progress 40 --phase fetch --message 'half done' --items 7 --failed 1; {AGENTD} progress --phase pack"
    )
    agentd("run", "-s", "tells", "--", "sh", "-c", script)
    (task,) = agentd.json("ls", "-s", "tells")["data"]
    assert (task["progress"], task["phase"], task["message"]) == (40, "pack", "half done")
    assert (task["items_processed"], task["items_failed"]) == (7, 1)


def test_a_task_submits_into_its_own_session(agentd: Agentd) -> None:
    agentd("run", "-s", "parent", "--", "sh", "-c", f"{AGENTD} submit --name child true")
    tasks = agentd.json("ls", "-s", "parent")["data"]
    assert [task["name"] for task in tasks] == ["child", None]
    agentd("wait", tasks[0]["task_id"])


def test_a_list_shows_what_a_task_submitted(agentd: Agentd) -> None:
    agentd("run", "-s", "lists", "--", "sh", "-c", f"{AGENTD} submit --name child true")
    child, parent = agentd.json("ls", "-s", "lists")["data"]
    assert agentd.text("ls", "--parent", parent["task_id"], "-o", "name").split() == [child["task_id"]]
    assert agentd.text("ls", "-s", "lists", "--awaiting", "-o", "name") == ""
    agentd("wait", child["task_id"])


def test_a_task_reaches_no_other_session(agentd: Agentd) -> None:
    agentd("sessions", "create", "private")
    done = agentd("run", "-s", "curious", "--", "sh", "-c", f"{AGENTD} show private", code=None)
    assert done.returncode in (2, 4)
    assert b"private" not in done.stdout


def test_saying_nothing_is_a_mistake(agentd: Agentd) -> None:
    assert b"say something" in agentd("progress", "--task", "x", code=2).stderr
