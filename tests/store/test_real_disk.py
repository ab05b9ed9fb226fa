"""The same on the disk of this machine: modes, links, short writes, a disk that is full or read-only, kill -9."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentd.errors import SessionReadOnly, StorageFailed
from agentd.store import layout
from agentd.store.check import check
from agentd.store.datadir import prepare, sweep
from agentd.store.disk import Disk, RealDisk, replace_file
from agentd.store.folder import Folder
from agentd.store.replay import Replay
from agentd.store.views import view_of
from tests.store.story import finished, progressed, session, session_created, started, task_created, titled


@pytest.fixture
def disk() -> Disk:
    return RealDisk()


@pytest.fixture
def data_dir(tmp_path: Path, disk: Disk) -> Path:
    path = tmp_path / "data"
    prepare(disk, str(path))
    return path


@pytest.fixture
def folder(data_dir: Path, disk: Disk) -> Iterator[Folder]:
    events = [session_created("a"), task_created("a", "t1")]
    folder, _ = Folder.create(disk, str(data_dir / "sessions"), session("a"), events, segment_bytes=2000)
    yield folder
    folder.close()


def reopened(disk: Disk, folder: Folder) -> int:
    """How many events another process finds."""
    again, loaded = Folder.open(disk, folder.path)
    again.close()
    return loaded.seq


def test_files_are_0600_and_directories_0700_whatever_the_umask(tmp_path: Path, disk: Disk) -> None:
    before = os.umask(0)
    try:
        prepare(disk, str(tmp_path / "data"))
        events = [session_created("a"), task_created("a", "t1"), started("t1"), finished("t1")]
        folder, appended = Folder.create(disk, str(tmp_path / "data/sessions"), session("a"), events)
        replay = Replay()
        for seq, event in enumerate(events, 1):
            replay.apply(event, seq)
        folder.write_views(view_of(replay, appended.position, metadata_changed=True))
        folder.close()
    finally:
        os.umask(before)
    for path in tmp_path.joinpath("data").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    assert check(disk, str(tmp_path / "data"), repair=False).findings == ()


def test_an_append_survives_its_process(disk: Disk, folder: Folder) -> None:
    folder.append([started("t1"), titled("x" * 3000)], 3)
    folder.append([finished("t1")], 5)
    assert reopened(disk, folder) == 5
    assert sorted(os.listdir(folder.path + "/history")) == ["events-000001.jsonl", "events-000002.jsonl"]


def test_a_file_that_does_not_fit_is_cut_back(disk: Disk, folder: Folder) -> None:
    """A real short write: the kernel takes what fits under the limit and refuses the rest."""
    size = os.path.getsize(layout.segment_path(folder.path, 1))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, old[1]))
    try:
        with pytest.raises(StorageFailed, match="was not written: File too large"):
            folder.append([titled("x" * 500)], 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    assert os.path.getsize(layout.segment_path(folder.path, 1)) == size
    folder.append([titled("fits")], 3)
    assert reopened(disk, folder) == 3


def test_links_are_not_followed(disk: Disk, folder: Folder, tmp_path: Path) -> None:
    folder.close()
    secret = tmp_path / "secret"
    secret.write_text("mine")
    snapshot = Path(layout.tasks_path(folder.path))
    snapshot.unlink()
    snapshot.symlink_to(secret)
    trap = Path(folder.path, ".tasks.json.tmp")
    trap.symlink_to(secret)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        disk.read(str(snapshot))
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        replace_file(disk, str(snapshot), b"x", "")
    assert reopened(disk, folder) == 2  # as if it were missing
    segment = Path(layout.segment_path(folder.path, 1))
    segment.rename(tmp_path / "moved")
    segment.symlink_to(tmp_path / "moved")
    with pytest.raises(SessionReadOnly, match="cannot be read"):
        Folder.open(disk, folder.path)
    assert secret.read_text() == "mine"


def test_a_pipe_in_a_files_place_holds_nobody_up(disk: Disk, folder: Folder) -> None:
    folder.close()
    os.unlink(layout.tasks_path(folder.path))
    os.mkfifo(layout.tasks_path(folder.path))
    assert Folder.header(disk, folder.path) is None
    assert reopened(disk, folder) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_refuses_and_reads_on(data_dir: Path, disk: Disk, folder: Folder) -> None:
    sessions = data_dir / "sessions"
    sessions.chmod(0o500)
    try:
        with pytest.raises(StorageFailed, match="Permission denied"):
            Folder.create(disk, str(sessions), session("b"), [session_created("b")])
        assert Folder.header(disk, folder.path) is not None
    finally:
        sessions.chmod(0o700)


def test_a_disk_that_is_read_only_refuses_and_reads_on(data_dir: Path, folder: Folder) -> None:
    class ReadOnly(RealDisk):
        def open(self, path: str, *, write: bool = False, append: bool = False, truncate: bool = False) -> int:
            if write or append:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
            return super().open(path)

        def mkdir(self, path: str) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    disk = ReadOnly()
    assert Folder.header(disk, folder.path) is not None
    with pytest.raises(StorageFailed, match="Read-only file system"):
        Folder.open(disk, folder.path)
    with pytest.raises(StorageFailed, match="Read-only file system"):
        Folder.create(disk, str(data_dir / "sessions"), session("b"), [session_created("b")])


def test_a_file_shorter_than_expected_is_read_to_its_end(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    fd = disk.open(str(tmp_path / "f"))
    assert disk.pread(fd, 100, 1) == b"bc"
    disk.close(fd)
    assert disk.entry(str(tmp_path)).kind == "directory"
    assert disk.entry("/dev/null").kind == "other"


WRITER = """
import sys
from tests.store.story import progressed, session, session_created, started, task_created
from agentd.store.disk import RealDisk
from agentd.store.folder import Folder
folder, _ = Folder.create(RealDisk(), sys.argv[1], session("a"),
    [session_created("a"), task_created("a", "t1"), started("t1")], segment_bytes=4000)
seq = 3
while True:
    folder.append([progressed("t1"), progressed("t1")], seq + 1)
    seq += 2
    print(seq, flush=True)
"""


def test_kill_minus_9_loses_nothing_that_was_acknowledged(data_dir: Path, disk: Disk) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(data_dir / "sessions")],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert writer.stdout is not None
    with writer.stdout:
        try:
            for _ in range(50):
                acked = int(writer.stdout.readline())
        finally:
            writer.kill()
            rest = writer.stdout.read().split()
            writer.wait()
    acked = int(rest[-1]) if rest else acked
    sweep(disk, str(data_dir / "sessions"))
    folder, loaded = Folder.open(disk, str(data_dir / "sessions/a"))
    assert acked <= loaded.seq <= acked + 2
    folder.append([progressed("t1")], loaded.seq + 1)
    folder.close()
    assert check(disk, str(data_dir), repair=False).findings == ()
