"""agentd export and import, from one daemon to another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.daemon_process import Agentd


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Agentd]:
    (tmp_path / "other").mkdir()
    agentd = Agentd(tmp_path / "other")
    try:
        agentd.start()
        yield agentd
    finally:
        agentd.end()


def test_a_session_goes_from_one_agent_to_another(agentd: Agentd, other: Agentd, tmp_path: Path) -> None:
    agentd("run", "-s", "moving", "--", "sh", "-c", "echo here")
    file = tmp_path / "moving.tar"
    told = agentd("export", "moving", "-o", str(file))
    assert told.stderr.endswith(b" bytes\n")
    assert b"--force replaces it" in agentd("export", "moving", "-o", str(file), code=2).stderr
    assert agentd("export", "moving", "-o", "-").stdout == file.read_bytes()
    agentd("export", "moving", "-o", str(file), "--force")
    assert [path.name for path in tmp_path.glob("moving*")] == ["moving.tar"]
    (view,) = other.json("import", str(file))["data"]
    assert (view["session_id"], view["counts"]) == ("moving", {"completed": 1})
    assert other("logs", "moving").stdout == b"here\n"
    assert b"delete it first" in other("import", str(file), code=1).stderr
    assert json.loads(other("check", "-o", "json").stdout)["findings"] == []


def test_what_is_no_archive_is_said_to_be_none(agentd: Agentd, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"hello")
    assert b"is not an archive that `agentd export` made" in agentd("import", str(tmp_path / "x.tar"), code=2).stderr
    assert b"No such file" in agentd("import", str(tmp_path / "absent.tar"), code=2).stderr
    assert agentd("export", "no-such-session", code=4).stdout == b""
    assert not list(tmp_path.glob("no-such*"))
