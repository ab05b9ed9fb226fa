"""What other users of the machine find: files, sockets and memory that are closed to them."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentd.config import Http, Settings
from agentd.daemon import Daemon
from agentd.errors import ConfigInvalid, StorageFailed
from agentd.store.datadir import make_private
from tests.daemon.harness import RealDaemon
from tests.http.conftest import Serve
from tests.users import NOBODY, as_root
from tests.webui.conftest import MakeDaemon, MakeViewer


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """What programs started meanwhile begin with."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def acting_as(user: int) -> Iterator[None]:
    """This process as another user."""
    before = os.geteuid()
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(before)


def open_to_others(place: Path) -> dict[str, str]:
    """Everything beneath a place that others may do something with."""
    found = {}
    for folder, names, files in os.walk(place):
        for name in [".", *names, *files]:
            mode = os.lstat(Path(folder, name)).st_mode
            if mode & 0o077 and not stat.S_ISLNK(mode):
                found[str(Path(folder, name).relative_to(place))] = oct(mode)
    return found


@pytest.mark.parametrize("mask", [0, 0o077])
def test_no_file_of_the_daemon_is_open_to_others_whatever_the_umask(
    make_daemon: MakeDaemon, tmp_path: Path, mask: int
) -> None:
    with umask(mask):
        daemon = make_daemon("a/deep/data", http={"socket": str(tmp_path / "s")})
        (tmp_path / "a/deep").mkdir(parents=True)
        daemon.start()
        task = daemon.shell(
            "s", "echo out; echo x > file; mkdir d; echo y > $AGENTD_ARTIFACTS/a; echo 1 > $AGENTD_RESULT"
        )
        daemon.wait(task["task_id"])
        daemon.request("PUT", "/sessions/s/artifacts/sub/b", b"b", Content_Type="application/octet-stream")
        command = [sys.executable, "-m", "agentd.cli.main", "--data-dir", str(daemon.data_dir)]
        subprocess.run([*command, "token", "create", "x", "--role", "viewer"], check=True, capture_output=True)
        assert daemon.stop() == 0
    assert open_to_others(daemon.data_dir) == {}


def test_the_secret_of_the_viewer_and_all_above_it_are_closed_to_others(
    make_viewer: MakeViewer, tmp_path: Path
) -> None:
    secret = tmp_path / "state" / "deep" / "er" / "secret"
    with umask(0):
        viewer = make_viewer({"one": tmp_path / "none"}, "--secret-file", str(secret)).start()
        assert viewer.stop() == 0
    assert open_to_others(tmp_path / "state") == {}


def test_a_data_directory_that_a_checkout_left_open_is_closed_at_the_start(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    daemon.data_dir.mkdir()
    daemon.data_dir.chmod(0o777)
    daemon.start()
    assert stat.S_IMODE(daemon.data_dir.stat().st_mode) == 0o700


@as_root
def test_a_data_directory_of_another_user_is_refused() -> None:
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)
        with acting_as(NOBODY), pytest.raises(StorageFailed, match="belongs to user 0"):
            make_private(Path(place))


async def refused(data_dir: Path, path: Path) -> str:
    """What a daemon says that may not listen at a path."""
    daemon = Daemon(Settings(data_dir=str(data_dir), http=Http(port=0, socket=str(path))))
    try:
        with pytest.raises(ConfigInvalid) as found:
            await daemon.start()
    finally:
        await daemon.close()
    return str(found.value)


async def test_a_socket_is_not_put_where_others_may_replace_it(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert "others may replace" in await refused(tmp_path / "data", tmp_path / "open" / "s")


@pytest.mark.parametrize("what", ["file", "link", "living"])
async def test_a_path_that_is_taken_is_left_alone(tmp_path: Path, what: str) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as living:
        if what == "file":
            path.write_text("mine")
        elif what == "link":
            path.symlink_to(tmp_path / "elsewhere")
        else:
            living.bind(str(path))
            living.listen()
        assert "choose another path" in await refused(tmp_path / "data", path)
        assert path.is_symlink() or path.exists()


async def test_a_dead_socket_of_ours_makes_room_and_the_new_one_is_ours_alone(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    await serve(http=Http(port=0, socket=str(path)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@as_root
def test_the_kernel_says_who_is_at_the_other_end_of_a_socket(make_daemon: MakeDaemon) -> None:
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        path = f"{place}/s"
        daemon = make_daemon(http={"socket": path}).start()
        os.chmod(path, 0o666)  # as if somebody had got around its mode
        with socket.socket(socket.AF_UNIX) as client:
            with acting_as(NOBODY):
                client.connect(path)
            client.sendall(
                f"GET /status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {daemon.token}\r\n\r\n".encode()
            )
            answer = client.recv(65536)
        assert answer.startswith(b"HTTP/1.1 403") and b"user 65534 may not" in answer


def limits_of(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:26].strip(): line[26:].split() for line in lines}


def test_neither_daemon_nor_viewer_leaves_its_memory_in_a_core(
    make_daemon: MakeDaemon, make_viewer: MakeViewer
) -> None:
    daemon: RealDaemon = make_daemon().start()
    viewer = make_viewer({"one": daemon.data_dir}).start()
    for process in (daemon.process, viewer.process):
        assert process is not None
        assert limits_of(process.pid)["Max core file size"][0] == "0"
