import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.errors import Invalid
from agentd.store import inside
from tests.descriptors import open_files

PIECES = st.sampled_from(
    ["", ".", "..", "a", "b", "link", "up", "\0", "\n", "/", "...", "é", "\ud800", ".agentd-tmp-1", "x" * 256]
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with links that lead out of it, and a secret beside it."""
    top = tmp_path_factory.mktemp("inside")
    (top / "secret").write_text("secret")
    (top / "outside").mkdir()
    (top / "outside" / "a").write_text("secret")
    root = top / "root"
    (root / "b").mkdir(parents=True)
    (root / "a").write_text("mine")
    (root / "b" / "a").write_text("mine")
    (root / "link").symlink_to(top / "secret")
    (root / "up").symlink_to(top / "outside")
    (root / "b" / "link").symlink_to("../../secret")
    return root


def read(root: Path, path: str) -> str:
    names = inside.checked(path)
    with inside.directory(root) as fd, inside.parent(fd, names) as (parent, name):
        file = inside.open_file(parent, name)
        with os.fdopen(file) as opened:
            return opened.read()


@given(path=st.one_of(st.text(max_size=20), st.lists(PIECES, max_size=6).map("/".join)))
def test_no_path_reads_anything_outside(tree: Path, path: str) -> None:
    try:
        found = read(tree, path)
    except (Invalid, FileNotFoundError, NotADirectoryError):
        return
    assert found == "mine"


@given(path=st.one_of(st.text(max_size=20), st.lists(PIECES, max_size=6).map("/".join)))
def test_an_accepted_path_is_a_plain_relative_one(path: str) -> None:
    try:
        names = inside.checked(path)
    except Invalid:
        return
    assert names
    assert os.path.normpath(path) == path
    assert not os.path.isabs(path)
    assert not any(ord(c) < 0x20 for c in path)


@given(path=st.one_of(st.text(max_size=20), st.lists(PIECES, max_size=6).map("/".join)))
def test_what_is_made_is_made_inside(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    top = tmp_path_factory.mktemp("make")
    root = top / "root"
    root.mkdir()
    (top / "outside").mkdir()
    (root / "up").symlink_to(top / "outside")
    try:
        names = inside.checked(path)
        with inside.directory(root) as fd, inside.parent(fd, names, make=True) as (parent, name):
            file, temporary = inside.create_temporary(parent)
            os.close(file)
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except (Invalid, NotADirectoryError):
        pass
    assert sorted(p.name for p in top.iterdir()) == ["outside", "root"]
    assert list((top / "outside").iterdir()) == []


@pytest.mark.parametrize("path", ["link", "up/a", "b/link", "b"])
def test_a_symlink_or_a_directory_is_no_file(tree: Path, path: str) -> None:
    with pytest.raises((FileNotFoundError, NotADirectoryError)):
        read(tree, path)


def test_a_fifo_and_a_socket_are_no_files_and_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for name in ("fifo", "socket"):
            with pytest.raises(FileNotFoundError):
                read(tmp_path, name)


def test_only_files_and_directories_with_acceptable_names_are_listed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "line\nfeed").touch()
    (tmp_path / (inside.TEMPORARY + "0")).touch()
    os.mkfifo(tmp_path / "fifo")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).touch()
    with inside.directory(tmp_path) as fd:
        found = sorted(inside.entries(fd, 100))
    assert found == [inside.Entry("directory", True), inside.Entry("file", False)]


def test_removing_leaves_symlinks_and_what_they_lead_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    with inside.directory(tmp_path) as fd:
        assert not inside.remove_file(fd, "link")
        assert not inside.remove_file(fd, "gone")
        assert (tmp_path / "file").exists()
        assert inside.remove_file(fd, "file")


def test_a_path_that_is_too_deep_or_too_long_is_refused() -> None:
    inside.checked("/".join("a" * inside.MAX_DEPTH))
    with pytest.raises(Invalid, match="components"):
        inside.checked("/".join("a" * (inside.MAX_DEPTH + 1)))
    with pytest.raises(Invalid, match="longer"):
        inside.checked("/".join(["a" * 200] * 6))


def test_no_descriptor_is_left_open(tree: Path) -> None:
    before = open_files()
    for path in ("b/a", "b/link", "up/a", "missing/a", "b"):
        try:
            read(tree, path)
        except (FileNotFoundError, NotADirectoryError):
            pass
    assert open_files() <= before


def test_an_absolute_path_is_called_that() -> None:
    with pytest.raises(Invalid, match="is absolute"):
        inside.checked("/etc/hosts")
