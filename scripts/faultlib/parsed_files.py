"""Parsers of what is found in the data directory, in files of settings, of tasks and workers, and in /proc."""

from __future__ import annotations

import contextlib
import zlib
from functools import cache
from pathlib import Path

import msgspec

from agentd import config
from agentd.client import discovery
from agentd.engines.local import process_tree, worker_process
from agentd.errors import AgentdError, ConfigInvalid, SessionReadOnly, StorageFailed
from agentd.http import auth
from agentd.http.tokens import TokenFile, first_token
from agentd.kinds import outcomes
from agentd.model.ids import session_tag
from agentd.model.launch import EndedBy, Exit
from agentd.model.reading import UNREADABLE
from agentd.model.requests import TaskQuery
from agentd.store import agent_file, check, chunks, datadir, edits, history, journal, layout
from agentd.store.disk import RealDisk
from agentd.store.folder import Folder
from faultlib.parser_table import DEEP, StoppedClock, parser, place, request
from tests.store.simdisk import SimDisk
from tests.store.story import DATA, Player, finished, progressed, session, started, task_created
from webui import settings

SESSION = "s"
_TASKS = tuple(f"{session_tag(SESSION)}456789abc{n}" for n in "def")
TASK = _TASKS[0]  #: the one that has ended


@cache
def _story() -> SimDisk:
    """A disk with a session that has lived: one task has ended, one runs, one waits."""
    disk = SimDisk()
    disk.mkdir(DATA.rsplit("/", 1)[0])
    player = Player(disk)
    player.start()
    player.create(SESSION)
    for task_id in _TASKS:
        player.append(SESSION, task_created(SESSION, task_id))
    player.append(SESSION, started(_TASKS[0]), progressed(_TASKS[0]), finished(_TASKS[0]), started(_TASKS[1]))
    player.views(SESSION)
    player.append(SESSION, progressed(_TASKS[1]))
    player.close()
    return disk


def opened_files() -> dict[str, bytes]:
    disk = _story()
    path = layout.session_dir(DATA, SESSION)
    found = {name: disk.read(f"{path}/{name}") for name in (layout.METADATA, layout.TASKS)}
    for name in disk.listdir(layout.history_dir(path)):
        found[f"{layout.HISTORY}/{name}"] = disk.read(f"{path}/{layout.HISTORY}/{name}")
    return found


def _opened(disk: SimDisk) -> None:
    """Open the session as a daemon does, read all that a page may ask for, and have it checked and repaired."""
    path = layout.session_dir(DATA, SESSION)
    Folder.header(disk, path)
    check.check(disk, DATA, repair=False)
    try:
        folder, loaded = Folder.open(disk, path)
    except SessionReadOnly:
        shown = Folder.read_damaged(disk, path)
        assert shown.session.session_id
    else:
        with contextlib.suppress(StorageFailed):  # damage before the snapshot, which only readers of old events meet
            folder.read_events(0, 1000, loaded.seq)
        folder.close()
    check.check(disk, DATA, repair=True)


def _with(name: str, text: bytes) -> SimDisk:
    disk = _story().fork()
    fd = disk.open(f"{layout.session_dir(DATA, SESSION)}/{name}", write=True, truncate=True)
    disk.write(fd, text)
    disk.close(fd)
    return disk


_SEGMENT = f"{layout.HISTORY}/{layout.segment_name(1)}"


@parser(opened_files()[_SEGMENT])
def journal_lines(text: bytes) -> None:
    """A segment whose bytes are anything."""
    _opened(_with(_SEGMENT, text))


def _bodies_of_journal() -> bytes:
    lines = opened_files()[_SEGMENT].splitlines()[1:]
    return b"\n".join(b"{" + line[line.index(b'"at"') : -18] + b"}" for line in lines)


@parser(_bodies_of_journal(), DEEP, b'{"at":"\xa1","type":"session.created"}')
def journal_sealed(text: bytes) -> None:
    """A journal whose lines say anything and fit all the same: whoever can write them can seal them."""
    lines = [journal.sealed_head(SESSION, 1, 1, 0)]
    crc = 0
    for seq, body in enumerate(text.split(b"\n")[:50], 1):
        head = b'{"seq":%d,"b":%d,"session_id":"%b",' % (seq, seq, SESSION.encode())
        line, crc = journal.sealed(head + body[1:-1], crc)
        lines.append(line)
    disk = _with(_SEGMENT, b"".join(lines))
    disk.unlink(f"{layout.session_dir(DATA, SESSION)}/{layout.TASKS}")
    _opened(disk)


@parser(opened_files()[layout.TASKS])
def snapshot(text: bytes) -> None:
    """tasks.json as it may be found."""
    _opened(_with(layout.TASKS, text))


@parser(opened_files()[layout.TASKS][:-18], DEEP)
def snapshot_sealed(text: bytes) -> None:
    """The same with a CRC that fits."""
    _opened(_with(layout.TASKS, b'%b"crc":"%08x"}\n' % (text, zlib.crc32(text))))


@parser(opened_files()[layout.METADATA], DEEP)
def metadata(text: bytes) -> None:
    """metadata.json as somebody edited it."""
    current = session(SESSION)
    try:
        changes = edits.edited(current, text)
    except AgentdError:
        changes = None
    if changes is not None:
        msgspec.json.encode(changes)
    _opened(_with(layout.METADATA, text))


@parser(*(text for name, text in opened_files().items() if "completed" in name), DEEP, b'{"name":"\xa1"}')
def record(text: bytes) -> None:
    """A record in history/."""
    name = next(name for name in opened_files() if "completed" in name)
    _opened(_with(name, text))
    for query in (TaskQuery(q="x"), TaskQuery(label=("a=b",), kind=("shell",)), TaskQuery(since="2026")):
        passes = history._filter(query)
        assert passes is not None
        passes(text)


@parser(b'{"o":0,"n":5,"s":"out","t":"2026-01-02T03:04:05.000000Z"}\n{"lost":3,"t":"x"}\n', b'{"o":' + b"[" * 5000)
def chunk_index(text: bytes) -> None:
    """The index beside a log."""
    for chunk in chunks._chunks_in(text, 100):
        assert 0 <= chunk.o < chunk.o + chunk.n <= 100


def _file(name: str, text: bytes) -> Path:
    path = place() / name
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(text)
    return path


_AGENT = (
    b'{"agent_id":"a","boot_id":"b","pid":1,"pid_started_at":2,"url":"http://127.0.0.1:1","data_dir":"/x",'
    b'"version":"0","started_at":"x"}'
)


@parser(_AGENT, DEEP, b'{"url":"\xf5"}')
def agent_json(text: bytes) -> None:
    """agent.json, read by the next daemon and by every client."""
    path = _file("agent.json", text)
    agent_file.read(str(path.parent))
    with contextlib.suppress(AgentdError):
        discovery.discover(str(path.parent), {})


@parser(b"agentd_" + b"x" * 43 + b"\n")
def token(text: bytes) -> None:
    """The file `token`."""
    path = _file("token", text)
    with contextlib.suppress(AgentdError):
        assert len(first_token(path.parent)) >= 32


@parser(b'{"format":1,"tokens":[{"token_id":"1","name":"n","role":"viewer","sha256":"00","created_at":"x"}]}', DEEP)
def tokens_json(text: bytes) -> None:
    """The file of hashes: a bad one leaves the first token alone, and never lets anybody in."""
    path = _file("tokens.json", text)
    with contextlib.suppress(AgentdError):
        TokenFile(path.parent).all()
    keeper = auth.Doorkeeper(
        "t" * 40, TokenFile(path.parent), task_of=lambda text: None, hosts=(), failures=1 << 30, clock=StoppedClock()
    )
    for given in ("", "x", "t" * 39):
        with contextlib.suppress(AgentdError):
            keeper.caller(request(Authorization=f"Bearer {given}"))
            raise AssertionError(f"{given!r} was let in")
    assert keeper.caller(request(Authorization="Bearer " + "t" * 40)).name == "token"


@parser(b'{"format":1}\n', b'{"format":99}', DEEP)
def format_json(text: bytes) -> None:
    """format.json."""
    path = _file("format.json", text)
    with contextlib.suppress(AgentdError):
        datadir.read_format(RealDisk(), str(path.parent))


@parser(
    b"data_dir: x\nworkers:\n  max: 3\n  queues: [a, b]\nretention: {output: {max_age_s: 7d}}\n",
    b"data_dir: !!python/object:os.system x\n",
    b'data_dir: "a\\0b"\nhttp: {socket: "\\0"}\n',
    b"a: &a [*a]\n",
    b"log: {level: !!timestamp 2001-99-99}\n? [a]\n: b\n",
)
def agentd_yaml(text: bytes) -> None:
    """agentd.yaml."""
    with contextlib.suppress(ConfigInvalid):
        config.load(file=_file("agentd.yaml", text), environ={})


@parser("workers.max=3", "http.port=x", "data_dir=\0", "drain_s=1e999", "workers.queues=a,b")
def setting(text: bytes) -> None:
    """A setting in the environment."""
    key, _, value = text.decode("utf-8", "surrogateescape").partition("=")
    name = "AGENTD_" + key.replace(".", "_").upper()
    with contextlib.suppress(ConfigInvalid):
        config.load(environ={name: value})


@parser(b"agents:\n- {name: a, url: 'http://h:1'}\nport: 1\n", b"agents: &a [*a]", b"{port: !!python/name:os.system }")
def webui_yaml(text: bytes) -> None:
    """webui.yaml."""
    with contextlib.suppress(settings.SettingsError):
        settings.load({"config": _file("webui.yaml", text)}, secret_file=Path("s"))


@parser("a=http://h:1", "a=unix:///x", "a=https://[::1]:1", "a=/x")
def agent_flag(text: bytes) -> None:
    """--agent NAME=TARGET."""
    with contextlib.suppress(settings.SettingsError):
        settings.agent_setting(text.decode("utf-8", "surrogateescape"), "flag")


def _exit(text: str | None) -> Exit:
    return Exit(ended_by=EndedBy.EXIT, exit_code=0, result=text)


@parser(b'{"a":[1,2,{"b":null}]}', b"text", b"[" * 100, b"1e999", b'"\\ud800"')
def result(text: bytes) -> None:
    """AGENTD_RESULT: whatever a task leaves can be shown, and kept in a journal."""
    value = outcomes.result(_exit(text.decode(errors="replace")))
    assert msgspec.json.decode(msgspec.json.encode({"result": value})) is not None


@parser(
    b'{"type":"ready"}\n{"type":"alive"}\n{"type":"spawned","attempt_id":"a","pid":1,"pid_started_at":2}\n',
    b'{"type":"exit","attempt_id":"a","exit":{"ended_by":"exit","exit_code":0}}\n',
)
def worker_messages(text: bytes) -> None:
    """What a worker says: messages, or the end of that worker."""
    for line in text.split(b"\n"):
        with contextlib.suppress(*UNREADABLE):
            worker_process._decoder.decode(line)


@parser(
    b"12 (sh) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1 18446744073709551615",
    b"12 (a) b) S (c) R 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1",
)
def proc_stat(text: bytes) -> None:
    """/proc/PID/stat of a process with any name; the rest is the kernel's."""
    name = text.translate(None, b"\0")[:15]
    line = b"7 (%b) S 1 2 3 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1 18446744073709551615" % name
    found = process_tree.parsed(7, line)
    assert (found.parent, found.group, found.session, found.started_at, found.zombie) == (1, 2, 3, 12345, False)


@parser(b"PATH=/bin\0AGENTD_TASK_ID=x\0Z=1\0", b"AGENTD_TASK_ID=", b"XAGENTD_TASK_ID=y\0")
def proc_environ(text: bytes) -> None:
    """/proc/PID/environ, which a process may write over."""
    found = process_tree.value_in(text, b"AGENTD_TASK_ID")
    expected = [each for each in text.split(b"\0") if each.startswith(b"AGENTD_TASK_ID=")]
    assert (found is not None) == bool(expected)
    if found is not None:
        assert found.encode("utf-8", "surrogateescape") == expected[0].partition(b"=")[2]
