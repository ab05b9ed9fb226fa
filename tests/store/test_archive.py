"""Sessions as archives: what is exported comes back the same, and nothing else comes in."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.config import Limits
from agentd.errors import AgentdError, Invalid, SessionExists, StorageFull, TooLarge
from agentd.kinds.agents.known import goes_along
from agentd.model.events import decoded
from agentd.model.session import Policy
from agentd.model.task import State
from agentd.store import exporting, layout
from agentd.store.archive import Begin, Packer, Unpacker
from agentd.store.check import check
from agentd.store.datadir import prepare, sweep
from agentd.store.disk import RealDisk
from agentd.store.exporting import exported
from agentd.store.folder import Folder
from agentd.store.importing import Import
from agentd.store.journal import Position, sealed, sealed_head
from agentd.store.replay import Replay
from agentd.store.verifying import ENDED
from agentd.store.view_writer import Moment
from agentd.store.views import metadata_bytes, snapshot_bytes, view_of
from tests.store.story import AT, finished, progressed, session, session_created, started, task_created, titled

MOST = 1 << 30
OWN = "a"
#: Files of agents' homes that belong to a conversation, and such as would log in, or run programs, where they come in.
CONVERSATIONS = (
    "claude/projects/-srv-s-workspace/1.jsonl", "claude/agentd-place.txt", "codex/sessions/2026/11/22/rollout-1.jsonl",
    "codex/state_5.sqlite", "codex/state_5.sqlite-wal", "codex/agentd-usage.json", "opencode/data/opencode/opencode.db",
)  # fmt: skip
NEVER_ALONG = (
    "claude/.credentials.json", "claude/.claude.json", "claude/settings.json", "claude/plugins/a",
    "claude/system-prompt.txt",
    "codex/auth.json", "codex/config.toml", "codex/skills/a/scripts/a.sh", "codex/AGENTS.md", "claude/Projects/a",
    "opencode/data/opencode/auth.json", "opencode/data/opencode/bin/rg", "opencode/data/opencode/snapshot/config",
)  # fmt: skip


def task_id(number: int) -> str:
    from agentd.model.ids import session_tag

    return session_tag(OWN) + f"{number:010d}"


class Agent:
    """A data directory, and the store's core on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.disk = RealDisk()
        prepare(self.disk, str(path))
        self.sessions = path / "sessions"

    def session(self) -> Path:
        """A session with tasks in several states, a journal of several segments, output and artifacts."""
        done, runs, waits = task_id(1), task_id(2), task_id(3)
        events = [session_created(OWN, tasks_kept=1), task_created(OWN, done), task_created(OWN, runs)]
        made, _ = Folder.create(self.disk, str(self.sessions), session(OWN, tasks_kept=1), events, segment_bytes=1500)
        made.append([started(done), started(runs), progressed(runs)], 4)
        made.append([finished(done), titled("x" * 1500)], 7)
        made.append([task_created(OWN, waits), finished_of(made, runs)], 9)
        made.append([task_created(OWN, task_id(4)), started(task_id(4))], 11)
        made.close()
        root = self.sessions / OWN
        (root / f"output/{done}.1.log").write_bytes(os.urandom(3000))
        (root / f"output/{done}.1.idx").write_bytes(b'{"o":0,"n":3000,"s":"out","t":"x"}\n')
        (root / "artifacts/deep/er").mkdir(parents=True)
        (root / "artifacts/deep/er/naïve ☃.txt").write_text("y")
        (root / ("artifacts/" + "n" * 200)).write_bytes(b"")
        (root / "workspace/secret").write_text("stays")
        (root / "home/agent/deep").mkdir(parents=True)
        (root / "home/agent/.said").write_text("comes along")
        for path in (*CONVERSATIONS, *NEVER_ALONG):
            (root / "home" / path).parent.mkdir(parents=True, exist_ok=True)
            (root / "home" / path).write_text("kept by an agent")
        (root / "home/agent/login").symlink_to(root / "workspace/secret")
        return root

    def export(self) -> bytes:
        folder, loaded = Folder.open(self.disk, str(self.sessions / OWN))
        folder.close()
        moment = Moment(
            loaded.session, loaded.seq, loaded.position, list(loaded.tasks.values()), [*loaded.keys.values()]
        )
        return b"".join(exported(self.disk, str(self.sessions / OWN), moment, goes_along))

    def take(self, archive: bytes, *, block: int = 1 << 16, most: int = MOST, name: str = OWN) -> None:
        with Import(self.disk, str(self.sessions), name, most, goes_along) as building:
            for at in range(0, len(archive), block):
                building.feed(archive[at : at + block])
            building.finish(AT)

    def refuses(self, archive: bytes, error: type[AgentdError] = Invalid, most: int = MOST) -> str:
        with pytest.raises(error) as caught:
            self.take(archive, most=most)
        assert os.listdir(self.sessions) == [], "something of it was kept"
        return caught.value.detail


def finished_of(folder: Folder, task: str):  # type: ignore[no-untyped-def]
    return finished(task, State.FAILED)


@pytest.fixture
def home(tmp_path: Path) -> Agent:
    return Agent(tmp_path / "home")


@pytest.fixture
def away(tmp_path: Path) -> Agent:
    return Agent(tmp_path / "away")


@pytest.fixture
def archive(home: Agent) -> bytes:
    home.session()
    return home.export()


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def repacked(archive: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """The archive with other files and a manifest that fits them."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        held = {each.name.partition("/")[2]: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]
    manifest = json.loads(held.pop("manifest.json"))
    change(held)
    packer = Packer(OWN, manifest["seq"])
    packed = [b"".join(packer.member(path, len(data), iter((data,)))) for path, data in held.items()]
    return b"".join([*packed, *packer.end()])


def raw(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_a_session_comes_back_as_it_was_and_what_had_not_ended_is_cancelled(home: Agent, away: Agent) -> None:
    root = home.session()
    archive = home.export()
    before, _ = Folder.open(home.disk, str(root))
    away.take(archive)
    left, came = files(root), files(away.sessions / OWN)
    assert not [path for path in came if path.startswith("workspace") or path.endswith("login")]
    assert "home/agent/.said" in came
    for path in came:
        if path.startswith(("output", "artifacts", "home")):
            assert came[path] == left[path]
    segments = sorted(path for path in left if "events-" in path)
    assert len(segments) > 1
    for path in segments:
        assert came[path].startswith(left[path]), "the journal is not a beginning of what it now is"
    folder, loaded = Folder.open(away.disk, str(away.sessions / OWN))
    folder.close()
    before.close()
    states = {task.task_id: task.state for task in loaded.tasks.values()}
    assert not [state for state in states.values() if state in ("running", "queued", "waiting")]
    records = sorted(path.name.split("-")[1] for path in (away.sessions / OWN / "history").glob("*.json"))
    assert records == ["cancelled", "cancelled", "completed", "failed"]
    cancelled = next((away.sessions / OWN / "history").glob("*-cancelled-*.json"))
    assert json.loads(cancelled.read_bytes())["cause"]["message"] == ENDED.message
    assert check(away.disk, str(away.path), repair=False).findings == ()


def test_of_what_agents_keep_conversations_go_along_and_no_login_no_settings_and_no_program(
    home: Agent, away: Agent
) -> None:
    home.session()
    away.take(home.export())
    came = {path.removeprefix("home/") for path in files(away.sessions / OWN) if path.startswith("home/")}
    assert came == {*CONVERSATIONS, "agent/.said"}


@pytest.mark.parametrize("path", NEVER_ALONG)
def test_an_archive_that_brings_a_login_settings_or_a_program_of_an_agent_is_refused(
    path: str, archive: bytes, away: Agent
) -> None:
    evil = repacked(archive, lambda held: held.update({f"home/{path}": b"{}"}))
    assert "stay where they are" in away.refuses(evil)


def test_equal_sessions_make_equal_archives_and_a_second_journey_changes_nothing(home: Agent, away: Agent) -> None:
    home.session()
    assert home.export() == home.export()
    away.take(home.export())
    once = away.export()
    away.disk.rmtree(str(away.sessions / OWN))
    away.take(once)
    assert away.export() == once


def test_an_archive_is_plain_tar(archive: bytes, tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    manifest = json.loads((tmp_path / "out/a/manifest.json").read_bytes())
    assert {each["path"]: each["sha256"] for each in manifest["files"]} == {
        path: hashlib.sha256(data).hexdigest()
        for path, data in files(tmp_path / "out/a").items()
        if path != "manifest.json"
    }


@given(
    held=st.dictionaries(
        st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs", "Cc")), min_size=1, max_size=300),
        st.binary(max_size=3000),
        max_size=5,
    ),
    cuts=st.lists(st.integers(1, 2000), min_size=1, max_size=20),
)
def test_whatever_is_packed_is_unpacked_the_same_in_blocks_of_any_size(held: dict[str, bytes], cuts: list[int]) -> None:
    packer = Packer(OWN, 7)
    packed = [b"".join(packer.member(path, len(data), iter((data, b"more")))) for path, data in held.items()]
    data = b"".join([*packed, *packer.end()])
    unpacker, found, name = Unpacker(), dict[str, bytes](), ""
    at, turn = 0, 0
    while at < len(data):
        block = data[at : at + cuts[turn % len(cuts)]]
        at, turn = at + len(block), turn + 1
        for part in unpacker.feed(block):
            if isinstance(part, Begin):
                name = part.name.removeprefix(f"{OWN}/")
                found[name] = b""
            else:
                found[name] += part
    found.pop("manifest.json")
    assert found == held
    assert unpacker.ended


def test_an_archive_that_was_cut_short_anywhere_is_refused(archive: bytes, away: Agent) -> None:
    for end in range(0, len(archive) - 1024, 1024):
        away.refuses(archive[:end])


@pytest.mark.parametrize("more", [b"junk", b"\0\0x", b"x" * 512, b"\0" * 512 + b"x"])
def test_an_archive_with_something_behind_its_end_is_refused(archive: bytes, away: Agent, more: bytes) -> None:
    assert "follows its end" in away.refuses(archive + more)
    away.take(archive + bytes(len(more)))


def test_an_archive_with_a_bit_flipped_is_refused_unless_it_is_in_a_place_without_meaning(
    archive: bytes, home: Agent, away: Agent
) -> None:
    away.take(archive)
    whole = files(away.sessions / OWN)
    away.disk.rmtree(str(away.sessions / OWN))
    for at in range(0, len(archive), 719):
        damaged = bytearray(archive)
        damaged[at] ^= 1 << at % 8
        try:
            away.take(bytes(damaged))
        except (Invalid, TooLarge):
            assert os.listdir(away.sessions) == []
        else:  # padding between members
            assert files(away.sessions / OWN) == whole, f"bit {at % 8} of byte {at}"
            away.disk.rmtree(str(away.sessions / OWN))


NAMES = (
    "../evil",
    "a/../../evil",
    "/etc/evil",
    "a/artifacts/../../../evil",
    "a/artifacts/x/../y",
    "a/artifacts//x",
    "a/artifacts/./x",
    "a/artifacts/\x01",
    "a/artifacts/" + "/".join("d" * 40),
    "a/artifacts/.agentd-tmp-1",
    "a/artifacts",
    "a/workspace/x",
    "a/home/.bashrc",
    "a/history/../../../token",
    "a/history/notes",
    "a/history/events-1.jsonl",
    "a/output/x.sh",
    "a/output/x.1.log/y",
    "a/format.json",
    "a/",
    "a",
    "b/metadata.json",
    ".new-a/metadata.json",
)


@pytest.mark.parametrize("name", NAMES)
def test_no_file_lands_where_a_session_has_none(name: str, away: Agent, tmp_path: Path) -> None:
    away.refuses(raw((member(name), b"x")))
    assert not list(tmp_path.rglob("*evil*"))


KINDS = (
    tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE,
    tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.CONTTYPE, b"g", b"\0", b"Z",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_nothing_but_plain_files_comes_in(kind: bytes, away: Agent) -> None:
    info = member("a/artifacts/x", kind, "/etc/passwd")
    away.refuses(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict") + bytes(1024))


def test_a_file_twice_or_beneath_a_file_is_refused(away: Agent) -> None:
    twice = raw((member("a/artifacts/x"), b"1"), (member("a/artifacts/x"), b"2"))
    assert "twice" in away.refuses(twice)
    beneath = raw((member("a/artifacts/x"), b"1"), (member("a/artifacts/x/y"), b"2"))
    assert "beneath a file" in away.refuses(beneath)
    above = raw((member("a/artifacts/x/y"), b"1"), (member("a/artifacts/x"), b"2"))
    assert "twice" in away.refuses(above)


@pytest.mark.slow
def test_a_session_of_a_hundred_tasks_as_large_as_they_may_be_comes_in(home: Agent, away: Agent) -> None:
    command, count = "x" * Limits().body_bytes, Policy().tasks_kept
    events = [
        session_created(OWN, tasks_kept=count),
        *(task_created(OWN, task_id(number), command) for number in range(count)),
    ]
    Folder.create(home.disk, str(home.sessions), session(OWN, tasks_kept=count), events)[0].close()
    away.take(home.export())
    folder, loaded = Folder.open(away.disk, str(away.sessions / OWN))
    folder.close()
    assert len(loaded.tasks) == count


def test_what_is_too_large_is_refused_before_it_is_written(archive: bytes, away: Agent) -> None:
    assert "limits.import_bytes" in away.refuses(archive, TooLarge, most=len(archive) - 1)
    for name in ("a/tasks.json", "a/history/events-000001.jsonl", "a/manifest.json"):
        info = member(name)
        info.size = 1 << 40
        away.refuses(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"), TooLarge)
    pax = member("x", tarfile.XHDTYPE)
    pax.size = 1 << 30
    away.refuses(pax.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict"))
    many = b"".join(
        member(f"a/artifacts/{number}").tobuf(tarfile.PAX_FORMAT, "utf-8", "strict") for number in range(20)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agentd.store.importing.MAX_FILES", 10)
        away.refuses(many, TooLarge)


@pytest.mark.parametrize(
    "records",
    [
        b"9 path=x\n",
        b"18 GNU.sparse.x=1\n",
        b"11 size=-1\n",
        b"11 size=1e\n",
        b"999 path=x\n",
        b"\n",
        b"12 path=a\xff\n\n",
    ],
    ids=repr,
)
def test_other_pax_records_are_refused(records: bytes, away: Agent) -> None:
    pax = member("x", tarfile.XHDTYPE)
    pax.size = len(records)
    head = pax.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict") + records.ljust(512, b"\0")
    away.refuses(head + member("a/artifacts/x").tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict"))


def without_history(held: dict[str, bytes]) -> None:
    for path in [each for each in held if "events-" in each]:
        del held[path]


def torn(held: dict[str, bytes]) -> None:
    last = max(each for each in held if "events-" in each)
    held[last] += b'{"seq":'


def other_title(held: dict[str, bytes]) -> None:
    held["metadata.json"] = held["metadata.json"].replace(b"xxx", b"yyy")


def other_snapshot(held: dict[str, bytes]) -> None:
    held["tasks.json"] = held["tasks.json"].replace(b'"queued"', b'"waiting"')


def other_record(held: dict[str, bytes]) -> None:
    path = next(each for each in held if "-completed-" in each)
    held[path] = held[path].replace(b'"priority":0', b'"priority":9')


def strange_record(held: dict[str, bytes]) -> None:
    held[f"history/000001-completed-{task_id(9)}.json"] = b"{}\n"


def record_of_another(held: dict[str, bytes]) -> None:
    path = next(each for each in held if "-completed-" in each)
    held[f"history/000099-completed-{task_id(9)}.json"] = held[path]


def deep_record(held: dict[str, bytes]) -> None:
    held[f"history/000099-completed-{task_id(9)}.json"] = b'{"task_id":' + b"[" * 100_000


@pytest.mark.parametrize(
    "change",
    [without_history, torn, other_title, other_snapshot, other_record, strange_record, record_of_another, deep_record],
)
def test_files_that_do_not_belong_together_are_refused_though_their_sums_fit(
    change: Callable[[dict[str, bytes]], None], archive: bytes, away: Agent
) -> None:
    away.refuses(repacked(archive, change))


def resealed(held: dict[str, bytes], change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Another journal whose chain is sound, with the views of as much of it as makes sense."""
    paths = sorted(path for path in held if "events-" in path)
    events = [json.loads(line) for path in paths for line in held.pop(path).splitlines()[1:]]
    for path in [path for path in held if path.startswith("history/") or path == "tasks.json"]:
        del held[path]
    change(events)
    data, crc, sound = sealed_head(OWN, 1, 1, 0), 0, True
    replay, position = Replay(), Position(file="", offset=0, crc="")
    for seq, event in enumerate(events, 1):
        fields = {key: value for key, value in event.items() if key not in ("seq", "b", "session_id", "crc")}
        line, crc = sealed(b'{"seq":%d,"b":%d,"session_id":"a",%b' % (seq, seq, msgspec.json.encode(fields)[1:-1]), crc)
        data += line
        try:
            if sound:
                replay.apply(decoded(line), seq)
        except Exception:
            sound = False
        if sound:
            position = Position(file="events-000001.jsonl", offset=len(data), crc=f"{crc:08x}")
    held["history/events-000001.jsonl"] = data
    if replay.session is not None:
        view = view_of(replay, position)
        held["tasks.json"], held["metadata.json"] = snapshot_bytes(view), metadata_bytes(replay.session)
        for seq, state, task, record in replay.records():
            held[f"history/{layout.record_name(seq, state, task)}"] = record + b"\n"


def test_a_journal_that_says_anything_is_refused_or_becomes_a_sound_session(archive: bytes, away: Agent) -> None:
    accepted = [told_anything(seed, archive, away) for seed in range(100)]
    assert 10 < sum(accepted) < 90


def told_anything(seed: int, archive: bytes, away: Agent) -> bool:
    """Whether a journal with something changed in it was taken in."""
    rng = random.Random(seed)
    values: list[Any] = [None, -1, 1 << 70, "", "x" * 100, [], {}, [{}], "running", "completed", True, 1e400]

    def change(events: list[dict[str, Any]]) -> None:
        for _ in range(rng.randint(0, 2)):
            target: Any = rng.choice(events)
            while isinstance(target, dict) and target:
                key = rng.choice(list(target))
                if isinstance(target[key], dict) and rng.random() < 0.7:
                    target = target[key]
                    continue
                target[key] = rng.choice(values)
                break
        if rng.random() < 0.5:
            events.insert(rng.randrange(len(events) + 1), dict(rng.choice(events)))
        if rng.random() < 0.3:
            del events[rng.randrange(len(events))]

    try:
        away.take(repacked(archive, lambda held: resealed(held, change)))
    except (Invalid, TooLarge):
        assert os.listdir(away.sessions) == []
        return False
    assert check(away.disk, str(away.path), repair=False).findings == ()
    away.disk.rmtree(str(away.sessions / OWN))
    return True


def test_a_policy_that_no_client_could_set_is_refused(home: Agent, away: Agent) -> None:
    from msgspec.structs import replace

    created = session_created(OWN)
    wild = replace(created, session=replace(created.session, policy=Policy(max_parallel=10**9)))
    folder, _ = Folder.create(home.disk, str(home.sessions), wild.session, [wild])
    folder.close()
    away.refuses(home.export())


def test_a_session_that_is_there_is_not_touched(archive: bytes, home: Agent) -> None:
    before = files(home.path)
    with pytest.raises(SessionExists):
        home.take(archive)
    assert files(home.path) == before


def test_an_archive_under_another_name_is_refused_and_told_why(archive: bytes, away: Agent) -> None:
    with pytest.raises(Invalid, match="import it under that id, which its tasks' ids carry"):
        away.take(archive, name="b")
    assert os.listdir(away.sessions) == []


def test_a_disk_that_is_full_leaves_nothing(archive: bytes, away: Agent) -> None:
    class Full(RealDisk):
        def write(self, fd: int, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    away.disk = Full()
    away.refuses(archive, StorageFull)


def test_what_a_crash_left_of_an_import_is_swept(archive: bytes, away: Agent) -> None:
    building = Import(away.disk, str(away.sessions), OWN, MOST, goes_along)
    building.feed(archive[: len(archive) // 2])
    assert sweep(away.disk, str(away.sessions)) == [".new-a"]
    away.disk.mkdir(str(away.sessions / ".new-a"))  # and a second attempt is not in the way of a first one
    away.take(archive)
    assert os.listdir(away.sessions) == [OWN]


def test_an_archive_larger_than_memory_passes_through(home: Agent, away: Agent) -> None:
    root = home.session()
    size = 96 << 20
    with open(root / "artifacts/large", "wb") as file:
        file.truncate(size)
    folder, loaded = Folder.open(home.disk, str(root))
    folder.close()
    moment = Moment(loaded.session, loaded.seq, loaded.position, list(loaded.tasks.values()), [])
    tracemalloc.start()
    try:
        with Import(away.disk, str(away.sessions), OWN, MOST, goes_along) as building:
            for block in exported(home.disk, str(root), moment, goes_along):
                building.feed(block)
            building.finish(AT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (away.sessions / OWN / "artifacts/large").stat().st_size == size
    assert peak < 8 << 20


def test_a_log_that_shrinks_while_it_is_exported_breaks_the_export_off(
    home: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = home.session()
    log = next((root / "output").glob("*.log"))
    reading = exporting._blocks

    def blocks(disk: RealDisk, path: str) -> Iterator[bytes]:
        if path.endswith(".log"):
            log.write_bytes(b"")
        return reading(disk, path)

    monkeypatch.setattr(exporting, "_blocks", blocks)
    with pytest.raises(AgentdError, match="became shorter while it was exported"):
        home.export()
