import os
from pathlib import Path
from threading import Event, Thread

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.errors import Invalid, RangeNotSatisfiable
from agentd.store import chunks, lines, search, sgr
from agentd.store.log_index import LogIndexes
from agentd.store.output import OutputLog
from tests.descriptors import open_files

TASK = "0123456789abcd"
LINE = 8192


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "output").mkdir()
    return tmp_path / "output" / f"{TASK}.1.log"


@pytest.fixture
def log(path: Path) -> OutputLog:
    return OutputLog(path.parents[1], TASK, 1, LogIndexes())


def texts(log: OutputLog, first: int, count: int = 1000, max_bytes: int = LINE) -> list[str]:
    return [line.text for line in log.lines(first, count, max_bytes).lines]


def write_chunks(path: Path, chunks: list[tuple[str, bytes]]) -> None:
    """What a worker writes: the log, and an index beside it."""
    offset = 0
    with path.open("wb") as log, path.with_suffix(".idx").open("wb") as index:
        for stream, data in chunks:
            log.write(data)
            index.write(msgspec.json.encode({"o": offset, "n": len(data), "s": stream, "t": "2026-01-01T00:00:00Z"}))
            index.write(b"\n")
            offset += len(data)


# ---------------------------------------------------------------- bytes


def test_a_log_that_does_not_exist_is_empty(log: OutputLog) -> None:
    assert log.size() == log.size("out") == 0
    assert log.tail_from(0, 10) == b""
    assert log.lines(1, 10, LINE).total_lines == 0
    assert log.search("x", 10, LINE).total == 0
    with log.open_range() as sent:
        assert list(sent) == []


def test_ranges_are_the_bytes_of_the_file(path: Path, log: OutputLog) -> None:
    content = os.urandom(700_000)
    path.write_bytes(content)
    for start, end in ((0, None), (0, 0), (1, 2), (300_000, 600_001), (700_000, None), (5, 10_000_000)):
        with log.open_range(start, end) as sent:
            found = b"".join(sent)
        assert found == content[start:end]
        assert sent.length == len(found)


def test_a_range_behind_the_end_cannot_be_satisfied(path: Path, log: OutputLog) -> None:
    path.write_bytes(b"123")
    for start, end in ((4, None), (-1, None), (2, 1)):
        with pytest.raises(RangeNotSatisfiable, match="3 bytes"):
            log.open_range(start, end)


def test_a_range_is_as_long_as_it_said_while_the_log_grows(path: Path, log: OutputLog) -> None:
    path.write_bytes(b"123")
    with log.open_range() as sent:
        with path.open("ab") as more:
            more.write(b"456")
        assert b"".join(sent) == b"123"


def test_a_range_may_be_closed_while_a_thread_reads_it(
    path: Path, log: OutputLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(b"x" * 1_000_000)
    before = open_files()
    reading, go_on = Event(), Event()
    pread = os.pread

    def slow(fd: int, n: int, offset: int) -> bytes:
        reading.set()
        go_on.wait(60)
        return pread(fd, n, offset)

    monkeypatch.setattr(os, "pread", slow)
    sent = log.open_range()
    blocks: list[bytes] = []
    reader = Thread(target=lambda: blocks.extend(sent))
    reader.start()
    try:
        assert reading.wait(60)
        sent.close()
    finally:
        go_on.set()
        reader.join()
    assert len(blocks) == 1
    assert open_files() <= before


def test_the_tail_follows_a_growing_log(path: Path, log: OutputLog) -> None:
    path.write_bytes(b"123")
    assert log.tail_from(0, 2) == b"12"
    assert log.tail_from(2, 10) == b"3"
    assert log.tail_from(3, 10) == b""
    with path.open("ab") as more:
        more.write(b"45")
    assert log.tail_from(3, 10) == b"45"


@given(
    chunks=st.lists(st.tuples(st.sampled_from(["out", "err"]), st.binary(min_size=1, max_size=9)), max_size=20),
    start=st.integers(0, 50),
    length=st.integers(0, 50),
)
def test_each_stream_is_its_chunks_in_order(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[tuple[str, bytes]], start: int, length: int
) -> None:
    session = tmp_path_factory.mktemp("session")
    (session / "output").mkdir()
    write_chunks(session / "output" / f"{TASK}.1.log", chunks)
    log = OutputLog(session, TASK, 1)
    for stream in ("out", "err"):
        expected = b"".join(data for s, data in chunks if s == stream)
        assert log.size(stream) == len(expected)
        if start <= len(expected):
            with log.open_range(start, start + length, stream) as sent:
                assert b"".join(sent) == expected[start : start + length]


def test_what_the_index_lost_or_tore_is_passed_over(path: Path, log: OutputLog) -> None:
    write_chunks(path, [("out", b"one"), ("err", b"two"), ("out", b"three")])
    with path.with_suffix(".idx").open("ab") as index:
        index.write(b'{"lost":12,"t":"2026-01-01T00:00:00Z"}\nnonsense\n{"o":99,"n":5,"s":"out"}\n{"o":0,"n":3,"s":"ou')
    with log.open_range(stream="out") as sent:
        assert b"".join(sent) == b"onethree"


def test_a_stream_that_does_not_exist_is_refused(path: Path, log: OutputLog) -> None:
    path.write_bytes(b"1")
    path.with_suffix(".idx").touch()
    with pytest.raises(Invalid, match="out or err"):
        log.open_range(stream="both")


def test_a_log_that_is_a_link_is_not_followed(path: Path, log: OutputLog) -> None:
    (path.parent / "secret").write_text("secret")
    path.symlink_to("secret")
    assert log.size() == 0
    assert log.tail_from(0, 10) == b""


# ---------------------------------------------------------------- lines


@given(
    content=st.lists(st.sampled_from([b"\n", b"a", b"\r", b"\xff", "é".encode(), b"x" * 40]), max_size=40).map(b"".join)
)
def test_lines_are_what_splitting_at_line_feeds_gives(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    session = tmp_path_factory.mktemp("session")
    (session / "output").mkdir()
    (session / "output" / f"{TASK}.1.log").write_bytes(content)
    expected = content.split(b"\n")
    if not expected[-1]:
        expected.pop()
    window = OutputLog(session, TASK, 1).lines(1, 1000, LINE)
    assert [line.text for line in window.lines] == [raw.decode(errors="replace") for raw in expected]
    assert [line.line for line in window.lines] == list(range(1, len(expected) + 1))
    for line, raw in zip(window.lines, expected, strict=True):
        assert content[line.offset : line.offset + len(raw)] == raw
    assert (window.total_lines, window.size) == (len(expected), len(content))


@given(sizes=st.lists(st.integers(0, 30), max_size=60), data=st.data())
def test_any_window_of_any_growing_log_is_right(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    session = tmp_path_factory.mktemp("session")
    (session / "output").mkdir()
    with pytest.MonkeyPatch.context() as patch, (session / "output" / f"{TASK}.1.log").open("ab") as file:
        patch.setattr(lines, "BLOCK", 16)  # many blocks in a small log
        log = OutputLog(session, TASK, 1, LogIndexes())
        expected: list[str] = []
        for n, size in enumerate(sizes):
            expected.append(chr(97 + n % 26) * size)
            file.write(expected[-1].encode() + b"\n")
            file.flush()
            if data.draw(st.booleans()):
                first, count = data.draw(st.integers(1, n + 2)), data.draw(st.integers(0, 10))
                assert texts(log, first, count) == expected[first - 1 : first - 1 + count]
                assert texts(log, -first, count) == expected[-first:][:count]


def test_windows_of_a_log_of_many_blocks(path: Path, log: OutputLog) -> None:
    path.write_bytes(b"".join(b"line %d\n" % n for n in range(1, 50_001)))
    assert texts(log, 1, 2) == ["line 1", "line 2"]
    assert texts(log, 37_123, 1) == ["line 37123"]
    assert texts(log, -2, 10) == ["line 49999", "line 50000"]
    assert texts(log, 50_001) == []
    with path.open("ab") as more:
        more.write(b"more\nand a last one")
    assert texts(log, 50_001) == ["more", "and a last one"]
    with path.open("ab") as more:
        more.write(b" that goes on")
    assert texts(log, -1) == ["and a last one that goes on"]


def test_only_what_was_added_is_read_again(path: Path, log: OutputLog, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"0123456789abcde\n" * 100_000)
    log.lines(1, 1, LINE)
    with path.open("ab") as more:
        more.write(b"more\n")
    asked = []
    pread = os.pread

    def counted(fd: int, n: int, offset: int) -> bytes:
        asked.append(n)
        return pread(fd, n, offset)

    monkeypatch.setattr(os, "pread", counted)
    assert log.lines(-10, 10, LINE).total_lines == 100_001
    assert sum(asked) < 4 * lines.BLOCK


def test_a_line_of_ten_megabytes_is_cut_only_as_shown(path: Path, log: OutputLog) -> None:
    path.write_bytes(b"before\n" + b"x" * 10_000_000 + b"\nafter\n")
    before, long, after = log.lines(1, 10, LINE).lines
    assert (before.text, after.text, after.line) == ("before", "after", 3)
    assert long.text == "x" * LINE
    assert long.truncated
    assert not after.truncated
    assert log.size() == 10_000_014


def test_a_cut_goes_between_characters(path: Path, log: OutputLog) -> None:
    path.write_bytes("ééé\n".encode())
    for limit, text in ((1, ""), (2, "é"), (3, "é"), (5, "éé"), (6, "ééé")):
        (line,) = log.lines(1, 1, limit).lines
        assert (line.text, line.truncated) == (text, limit < 6)


def test_carriage_returns_escapes_and_bad_bytes_survive(path: Path, log: OutputLog) -> None:
    path.write_bytes(b"10%\r20%\r\n\x1b[31mred\x1b[0m\n\xff\xfe\n\xe2\x80\xa8\x0b\x0c\x85\n\0\n")
    assert texts(log, 1) == ["10%\r20%\r", "\x1b[31mred\x1b[0m", "��", "\u2028\x0b\x0c�", "\0"]


def test_line_zero_is_refused(log: OutputLog) -> None:
    with pytest.raises(Invalid, match="count from 1"):
        log.lines(0, 1, LINE)


def test_a_log_that_was_cut_or_replaced_is_read_anew(path: Path, log: OutputLog) -> None:
    path.write_bytes(b"one\ntwo\nthree\n")
    assert len(texts(log, 1)) == 3
    os.truncate(path, 4)
    assert texts(log, 1) == ["one"]
    other = path.with_name("other")
    other.write_bytes(b"a longer first line than before\n")
    other.rename(path)
    assert texts(log, 1) == ["a longer first line than before"]


def test_only_the_indexes_of_the_last_logs_are_kept(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    indexes = LogIndexes(2)
    for attempt in (1, 2, 3):
        (tmp_path / "output" / f"{TASK}.{attempt}.log").write_bytes(b"a\n" * attempt)
        assert OutputLog(tmp_path, TASK, attempt, indexes).lines(1, 1, LINE).total_lines == attempt
    assert len(indexes) == 2


def test_threads_share_an_index(path: Path, log: OutputLog) -> None:
    path.write_bytes(b"".join(b"line %d\n" % n for n in range(1, 20_001)))
    wrong: list[int] = []

    def look(first: int) -> None:
        for n in range(first, first + 200):
            if texts(log, n, 1) != [f"line {n}"]:
                wrong.append(n)

    threads = [Thread(target=look, args=(n,)) for n in (1, 10_000, 19_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_window_begins_in_the_colours_of_the_lines_before_it(path: Path, log: OutputLog) -> None:
    path.write_bytes(b"plain\n\x1b[1;31m" + b"a red line\n" * 40_000 + b"\x1b[0mplain\nplain\n")
    assert log.lines(1, 1, LINE).sgr == log.lines(2, 1, LINE).sgr == ""
    for number in (3, 5_003, 40_000, 40_002):
        assert log.lines(number, 1, LINE).sgr == "1;31"
    assert log.lines(40_003, 1, LINE).sgr == log.lines(50_000, 1, LINE).sgr == ""
    with path.open("ab") as more:
        more.write(b"\x1b[3")
    log.lines(1, 1, LINE)
    with path.open("ab") as more:
        more.write(b"2mgreen\nstill\n")
    assert log.lines(-1, 1, LINE).sgr == "32"


@given(st.lists(st.sampled_from([b"\n", b"a", b"\x1b[", b"3", b"1", b";", b"m", b"\x1b[0m", b"\x1b[44m"]), max_size=60))
def test_the_colours_are_those_of_all_the_text_before_wherever_blocks_end(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]
) -> None:
    session = tmp_path_factory.mktemp("session")
    (session / "output").mkdir()
    content = b"".join(parts)
    (session / "output" / f"{TASK}.1.log").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK", 16)
        log = OutputLog(session, TASK, 1, LogIndexes())
        for line in log.lines(1, 1000, LINE).lines:
            assert log.lines(line.line, 1, LINE).sgr == sgr.after(sgr.PLAIN, content[: line.offset]).sgr


# ---------------------------------------------------------------- lines of a stream


@given(
    written=st.lists(
        st.tuples(st.sampled_from(["out", "err"]), st.sampled_from([b"\n", b"a", b"bc\n", b"d\ne"])), max_size=40
    ),
    cuts=st.lists(st.integers(0, 40), max_size=3),
)
def test_a_stream_reads_as_a_log_of_its_own_while_both_grow(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[str, bytes]], cuts: list[int]
) -> None:
    session = tmp_path_factory.mktemp("session")
    (session / "output").mkdir()
    path = session / "output" / f"{TASK}.1.log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK", 8)
        patch.setattr(chunks, "PIECE", 64)
        patch.setattr(chunks, "GAP", 2)
        log = OutputLog(session, TASK, 1, LogIndexes())
        for cut in (*sorted(cuts), len(written)):
            write_chunks(path, written[:cut])
            for stream in ("out", "err"):
                own = b"".join(data for s, data in written[:cut] if s == stream)
                window = log.lines(1, 1000, LINE, stream=stream, detail=True)
                assert [line.text for line in window.lines] == own.decode().splitlines()
                assert (window.size, window.total_lines) == log.extent(stream) == (len(own), len(window.lines))
                assert all(line.stream == stream for line in window.lines)
                assert log.search("a", 1000, LINE, stream=stream).total == sum(
                    "a" in line.text for line in window.lines
                )
                for line in window.lines:
                    assert own[line.offset : line.offset + line.length].decode() == line.text


def test_each_line_of_the_log_tells_which_stream_it_began_in(path: Path, log: OutputLog) -> None:
    write_chunks(path, [("out", b"one\ntw"), ("err", b"o\nthree\n"), ("out", b"\n")])
    with path.open("ab") as more:
        more.write(b"not in the index yet\n")
    found = log.lines(1, 10, LINE, detail=True).lines
    assert [line.stream for line in found] == ["out", "out", "err", "out", None]
    assert [line.at for line in found] == ["2026-01-01T00:00:00Z"] * 4 + [None]


def test_what_is_lost_from_the_index_is_lost_to_its_stream_alone(path: Path, log: OutputLog) -> None:
    write_chunks(path, [("out", b"one\n"), ("err", b"two\n"), ("out", b"three\n")])
    index = path.with_suffix(".idx")
    index.write_bytes(index.read_bytes().replace(b'"s":"err"', b'"s":\xff"err"'))
    assert texts(log, 1) == ["one", "two", "three"]
    assert [line.text for line in log.lines(1, 10, LINE, stream="out").lines] == ["one", "three"]
    assert log.extent("err") == (0, 0)


def test_a_log_and_index_that_were_cut_are_read_anew(path: Path, log: OutputLog) -> None:
    write_chunks(path, [("out", b"one\n"), ("out", b"two\n")])
    assert log.extent("out") == (8, 2)
    write_chunks(path, [("out", b"one\n")])
    assert log.extent("out") == (4, 1)


# ---------------------------------------------------------------- search


@given(
    rows=st.lists(st.text(alphabet="abAB é", max_size=30), max_size=40),
    text=st.text(alphabet="abA é", min_size=1, max_size=3),
    limit=st.integers(0, 10),
    from_line=st.integers(1, 20),
    ignore_case=st.booleans(),
)
def test_search_finds_each_line_once_wherever_blocks_end(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str], text: str, limit: int, from_line: int, ignore_case: bool
) -> None:
    session = tmp_path_factory.mktemp("session")
    (session / "output").mkdir()
    (session / "output" / f"{TASK}.1.log").write_text("".join(row + "\n" for row in rows))

    def folded(s: str) -> str:
        return s.lower() if ignore_case else s

    expected = [n for n, row in enumerate(rows, 1) if n >= from_line and folded(text) in folded(row)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "BLOCK", 24)
        patch.setattr(search, "OVERLAP", 12)
        found = OutputLog(session, TASK, 1).search(text, limit, LINE, from_line=from_line, ignore_case=ignore_case)
    assert [match.line for match in found.matches] == expected[:limit]
    assert [match.text for match in found.matches] == [rows[n - 1] for n in expected[:limit]]
    assert found.total == len(expected)


def test_search_looks_into_lines_longer_than_a_block(path: Path, log: OutputLog) -> None:
    path.write_bytes(b"a needle\n" + b"x" * 3_000_000 + b"needle" + b"y" * 3_000_000 + b"\nneedle")
    found = log.search("needle", 10, 100)
    assert [match.line for match in found.matches] == [1, 2, 3]
    assert found.matches[1].truncated
    assert found.total == 3


def test_search_finds_what_lies_across_two_blocks_of_a_long_line(path: Path, log: OutputLog) -> None:
    for start in range(search.BLOCK - 8, search.BLOCK + 2):
        path.write_bytes(b"x" * start + b"needle" + b"y" * search.BLOCK + b"\n")
        assert log.search("needle", 10, 10).total == 1


def test_search_takes_every_character_literally(path: Path, log: OutputLog) -> None:
    path.write_bytes(b"a.c (1)\nabc 1\n\xff[x]\n")
    assert [m.line for m in log.search("a.c (", 10, LINE).matches] == [1]
    assert [m.line for m in log.search("[X]", 10, LINE, ignore_case=True).matches] == [3]


@pytest.mark.parametrize("text", ["", "a\nb", "x" * 1001, "\ud800"])
def test_a_text_that_cannot_be_searched_is_refused(path: Path, log: OutputLog, text: str) -> None:
    path.write_bytes(b"a\n")
    with pytest.raises(Invalid, match="q: "):
        log.search(text, 10, LINE)


def test_no_descriptor_is_left_open(path: Path, log: OutputLog) -> None:
    write_chunks(path, [("out", b"one\n")] * 10)
    before = open_files()
    log.lines(1, 10, LINE)
    log.search("one", 10, LINE)
    with pytest.raises(RangeNotSatisfiable):
        log.open_range(100)
    with log.open_range(0, 40, "out") as sent:
        next(iter(sent))
    assert open_files() <= before
