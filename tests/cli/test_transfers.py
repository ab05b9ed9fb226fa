"""agentd export and import, from one daemon to another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchlib.processes import until
from tests.cli.daemon_process import Agentd

#: What makes root a user whom modes bind.
BOUND = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")


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


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[Agentd]:
    """A daemon that may read what its user may, also where that is root."""
    if os.geteuid() == 0 and subprocess.run([*BOUND, "true"], check=False, capture_output=True).returncode:
        pytest.skip("root cannot give up reading everything here")
    agentd = Agentd(tmp_path)
    agentd.before = BOUND if os.geteuid() == 0 else ()
    try:
        agentd.start()
        yield agentd
    finally:
        agentd.end()


@pytest.mark.parametrize("closed", ["deep/secret", "deep"])
def test_an_artifact_that_may_not_be_read_is_named_before_anything_is_sent(
    bound: Agentd, tmp_path: Path, closed: str
) -> None:
    bound("run", "-s", "s", "--", "sh", "-c", 'mkdir "$AGENTD_ARTIFACTS/deep"; echo > "$AGENTD_ARTIFACTS/deep/secret"')
    path = bound.data_dir / "sessions/s/artifacts" / closed
    path.chmod(0)
    told = bound("export", "s", "-o", "-", code=1)
    assert told.stdout == b""
    assert f"artifact {closed} cannot be read: Permission denied".encode() in told.stderr
    bound("export", "s", code=1)
    assert not list(tmp_path.glob("s.tar*"))
    path.chmod(0o700)
    bound("export", "s")


def test_an_export_that_breaks_off_says_so_and_leaves_no_file(agentd: Agentd, tmp_path: Path) -> None:
    agentd("run", "-s", "s", "--", "sh", "-c", 'truncate -s 1G "$AGENTD_ARTIFACTS/large"')
    half = tmp_path / "s.tar.part"
    with agentd.popen("export", "s", "--output", str(tmp_path / "s.tar")) as client:
        try:
            until(lambda: half.exists() and half.stat().st_size > 0)
            client.send_signal(signal.SIGSTOP)  # so that the daemon is not done with it
            os.truncate(agentd.data_dir / "sessions/s/artifacts/large", 0)
            client.send_signal(signal.SIGCONT)
            _, said = client.communicate(timeout=60)
        finally:
            client.kill()
    assert client.returncode == 3
    assert b"the export broke off" in said, said
    assert b"s.tar was not made" in said
    assert not list(tmp_path.glob("s.tar*"))
