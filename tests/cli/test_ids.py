"""Ids by their beginning."""

from __future__ import annotations

import itertools

from tests.cli.daemon_process import Agentd


def test_a_unique_beginning_is_enough_and_an_ambiguous_one_names_the_candidates(agentd: Agentd) -> None:
    ids = [agentd.text("submit", "-s", "prefixes", "true").strip() for _ in range(2)]
    agentd("wait", *ids)
    common = "".join(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*ids, strict=True)))
    assert len(common) >= 4  # tasks of a session begin with its tag
    for task_id in ids:
        assert agentd.json("show", task_id[: len(common) + 1])["task_id"] == task_id
    for command in ("show", "logs", "cancel", "retry", "wait"):
        done = agentd(command, common, code=2)
        assert b"several tasks begin with" in done.stderr
        assert all(task_id.encode() in done.stderr for task_id in ids)


def test_sessions_too(agentd: Agentd) -> None:
    for name in ("prefix-one", "prefix-two", "prefix"):
        agentd("sessions", "create", name)
    assert agentd.json("show", "prefix-o")["session_id"] == "prefix-one"
    assert agentd.json("show", "prefix")["session_id"] == "prefix"
    assert b"several sessions begin with 'prefix-': prefix-one, prefix-two" in agentd("show", "prefix-", code=2).stderr
    agentd("rm", "prefix-two")
    assert agentd.json("show", "prefix-")["session_id"] == "prefix-one"


def test_what_is_deleted_is_named_in_full(agentd: Agentd) -> None:
    agentd("sessions", "create", "precious-work")
    done = agentd("rm", "precious", code=4)
    assert b"precious-work" in done.stderr
    assert agentd.json("show", "precious-work")["session_id"] == "precious-work"
    assert agentd.text("rm", "precious-work") == "precious-work\n"
