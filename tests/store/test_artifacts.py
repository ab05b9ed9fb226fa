import errno
import os
from pathlib import Path

import pytest

from agentd.errors import ArtifactNotFound, Conflict, Invalid, StorageFailed, StorageFull, TooLarge
from agentd.store import inside
from agentd.store.artifacts import Artifacts
from tests.descriptors import open_files

LIMIT = 1 << 20


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path)


def put(artifacts: Artifacts, path: str, content: bytes = b"content") -> None:
    with artifacts.write(path, LIMIT) as writer:
        for byte in content:
            writer.write(bytes([byte]))
        assert writer.commit().size == len(content)


def content(artifacts: Artifacts, path: str) -> bytes:
    opened = artifacts.open(path)
    with opened.file as file:
        found = file.read()
    assert len(found) == opened.size
    return found


def names(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.rglob("*"))


def test_what_is_written_is_read_listed_and_deleted(artifacts: Artifacts, tmp_path: Path) -> None:
    put(artifacts, "reports/one.txt", b"one")
    assert content(artifacts, "reports/one.txt") == b"one"
    (row,) = artifacts.list(10).data
    assert (row.path, row.size) == ("reports/one.txt", 3)
    file = tmp_path / "artifacts" / "reports" / "one.txt"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    artifacts.delete("reports/one.txt")
    assert names(tmp_path / "artifacts") == []
    with pytest.raises(ArtifactNotFound):
        artifacts.delete("reports/one.txt")


def test_a_second_write_replaces_the_whole_file(artifacts: Artifacts) -> None:
    put(artifacts, "a", b"a long first one")
    put(artifacts, "a", b"short")
    assert content(artifacts, "a") == b"short"


def test_a_reader_keeps_the_file_it_opened(artifacts: Artifacts) -> None:
    put(artifacts, "a", b"first")
    opened = artifacts.open("a")
    put(artifacts, "a", b"second")
    with opened.file as file:
        assert file.read() == b"first"


def test_a_write_that_is_not_committed_leaves_nothing(artifacts: Artifacts, tmp_path: Path) -> None:
    with artifacts.write("a", LIMIT) as writer:
        writer.write(b"half")
    assert names(tmp_path / "artifacts") == []
    assert artifacts.list(10).data == ()


def test_a_file_over_the_limit_is_refused_and_removed(artifacts: Artifacts, tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="larger than 10 bytes"), artifacts.write("a", 10) as writer:
        writer.write(b"12345")
        writer.write(b"678901")
    assert names(tmp_path / "artifacts") == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
def test_a_full_disk_says_so_and_leaves_nothing(artifacts: Artifacts, tmp_path: Path) -> None:
    writer = artifacts.write("a", LIMIT)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer._fd)
    os.close(full)
    with writer, pytest.raises(StorageFull, match="no room"):
        writer.write(b"x")
    assert names(tmp_path / "artifacts") == []


def test_a_failed_sync_is_an_error_and_leaves_nothing(
    artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with artifacts.write("a", LIMIT) as writer:
        writer.write(b"x")
        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(StorageFailed, match="Input/output"):
            writer.commit()
    assert names(tmp_path / "artifacts") == []


def test_what_a_failing_disk_would_not_remove_is_no_error_and_is_swept(
    artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlink(*args: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    before = open_files()
    writer = artifacts.write("a", LIMIT)
    with monkeypatch.context() as failing:
        failing.setattr(os, "unlink", unlink)
        writer.close()
    assert open_files() <= before
    assert names(tmp_path / "artifacts") != []
    artifacts.sweep()
    assert names(tmp_path / "artifacts") == []


def test_pages_go_through_all_paths_in_order_once(artifacts: Artifacts) -> None:
    paths = ["a", "a.b", "a/1", "b/c/d", "b/c/e", "b/f", "z"]
    paths.remove("a")
    for path in paths:
        put(artifacts, path)
    for limit in range(1, len(paths) + 2):
        seen: list[str] = []
        cursor = None
        while True:
            page = artifacts.list(limit, cursor)
            assert len(page.data) <= limit
            seen += [row.path for row in page.data]
            cursor = page.next
            if cursor is None:
                break
        assert sorted(seen) == sorted(paths)
        assert seen == sorted(seen, key=lambda path: path.split("/"))


def test_a_cursor_whose_file_is_gone_goes_on_behind_it(artifacts: Artifacts) -> None:
    for path in ("a", "b/c", "d"):
        put(artifacts, path)
    cursor = artifacts.list(2).next
    assert cursor == "b/c"
    artifacts.delete("b/c")
    assert [row.path for row in artifacts.list(2, cursor).data] == ["d"]


def test_a_session_without_artifacts_has_an_empty_list(artifacts: Artifacts) -> None:
    assert artifacts.list(10).data == ()
    with pytest.raises(ArtifactNotFound):
        artifacts.open("a")
    with pytest.raises(ArtifactNotFound):
        artifacts.delete("a")


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../a", "a/../b", "a//b", "a/", ".", "a\0b", "a\nb", "x" * 300])
def test_a_path_that_is_no_plain_relative_one_is_refused(artifacts: Artifacts, path: str) -> None:
    for act in (artifacts.open, artifacts.delete, lambda p: artifacts.write(p, LIMIT)):
        with pytest.raises(Invalid):
            act(path)


def test_links_that_a_task_made_lead_nowhere(artifacts: Artifacts, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    root = tmp_path / "artifacts"
    root.mkdir()
    (root / "file").symlink_to(outside / "secret")
    (root / "directory").symlink_to(outside)
    assert artifacts.list(10).data == ()
    for path in ("file", "directory/secret"):
        with pytest.raises(ArtifactNotFound):
            artifacts.open(path)
        with pytest.raises(ArtifactNotFound):
            artifacts.delete(path)
    with pytest.raises(Conflict):
        artifacts.write("directory/new", LIMIT)
    put(artifacts, "file", b"mine")  # replaces the link itself
    assert (outside / "secret").read_text() == "secret"
    assert names(outside) == ["secret"]


def test_a_directory_of_artifacts_that_is_a_link_is_not_used(artifacts: Artifacts, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (tmp_path / "artifacts").symlink_to(tmp_path / "outside")
    assert artifacts.list(10).data == ()
    with pytest.raises(ArtifactNotFound):
        artifacts.open("secret")
    with pytest.raises(Conflict):
        artifacts.write("new", LIMIT)


def test_a_hard_link_is_replaced_and_not_written_through(artifacts: Artifacts, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    (tmp_path / "artifacts").mkdir()
    os.link(tmp_path / "other", tmp_path / "artifacts" / "a")
    put(artifacts, "a", b"mine")
    assert (tmp_path / "other").read_text() == "other"


def test_a_path_beneath_a_file_or_onto_a_directory_is_a_conflict(artifacts: Artifacts, tmp_path: Path) -> None:
    put(artifacts, "a")
    put(artifacts, "d/e")
    with pytest.raises(Conflict):
        artifacts.write("a/b", LIMIT)
    with artifacts.write("d", LIMIT) as writer, pytest.raises(Conflict):
        writer.commit()
    assert names(tmp_path / "artifacts") == ["a", "d", "e"]


def test_what_lies_too_deep_is_not_listed_and_does_no_harm(artifacts: Artifacts, tmp_path: Path) -> None:
    put(artifacts, "a")
    deep = tmp_path / "artifacts" / "/".join("d" * 200)
    deep.mkdir(parents=True)
    (deep / "file").touch()
    assert [row.path for row in artifacts.list(10).data] == ["a"]
    assert artifacts.sweep() == 0


def test_what_has_too_long_a_path_is_not_listed(artifacts: Artifacts, tmp_path: Path) -> None:
    place = "artifacts/" + "/".join(["d" * 200] * 5)
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / ("f" * 20)).touch()  # 1025 bytes with the slashes
    (tmp_path / place / ("g" * 19)).touch()
    (row,) = artifacts.list(10).data
    assert content(artifacts, row.path) == b""


def test_what_a_killed_writer_left_is_swept(artifacts: Artifacts, tmp_path: Path) -> None:
    put(artifacts, "d/a")
    (tmp_path / "artifacts" / "d" / (inside.TEMPORARY + "0")).touch()
    (tmp_path / "artifacts" / (inside.TEMPORARY + "1")).touch()
    assert artifacts.sweep() == 2
    assert names(tmp_path / "artifacts") == ["a", "d"]


def test_no_descriptor_is_left_open(artifacts: Artifacts) -> None:
    before = open_files()
    put(artifacts, "a/b")
    content(artifacts, "a/b")
    artifacts.list(1)
    artifacts.sweep()
    with pytest.raises(Conflict):
        artifacts.write("a/b/c", LIMIT)
    artifacts.delete("a/b")
    assert open_files() <= before
