"""Settings: defaults < agentd.yaml < AGENTD_* < flags; validated and frozen.

A setting has one name everywhere: `workers.max` is `workers: {max: …}` in the file and AGENTD_WORKERS_MAX in the
environment. Durations (`…_s`) are seconds or texts like 10s, 5m, 2h, 7d; sizes (`…_bytes`) are bytes or texts like
10MiB, 2GB; lists in the environment are separated by commas.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, inspect

from agentd.errors import ConfigInvalid, FieldError
from agentd.model.session import Keep, Retention
from agentd.model.task import Value
from agentd.setting import PREFIX, Setting, leaves, read, shown

Count = Annotated[int, Meta(ge=1, le=10_000_000)]
Workforce = Annotated[int, Meta(ge=1, le=1000)]
Size = Annotated[int, Meta(ge=1, le=1 << 50)]
Pause = Annotated[float, Meta(ge=0, le=86_400)]
Beat = Annotated[float, Meta(ge=0.1, le=3600)]


class Workers(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pool of worker processes."""

    min: Annotated[int, Meta(ge=0, le=1000)] = 2  #: kept ready
    max: Workforce = 100  #: tasks that can run at once
    queues: tuple[str, ...] = ("*",)  #: names of the queues served; * is all
    max_tasks: Count = 1000  #: a worker is replaced after so many tasks
    max_restarts: Workforce = 10  #: lost workers within a minute before the pool is degraded and backs off
    heartbeat_s: Beat = 5.0  #: a busy worker says so this often; silent for three of them, it is lost
    grace_s: Pause = 5.0  #: from SIGTERM to SIGKILL
    idle_s: Pause = 30.0  #: a worker beyond `min` leaves after this long idle


class Limits(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of everything a client can make grow."""

    body_bytes: Size = 1 << 20
    artifact_bytes: Size = 1 << 30
    import_bytes: Size = 10 << 30  #: of one archive
    header_bytes: Size = 16 << 10
    sessions: Count = 100_000
    live_tasks: Count = 100_000  #: not terminal, over all sessions
    live_tasks_per_session: Count = 20_000
    live_subtasks: Count = 100  #: of one task
    subtask_depth: Annotated[int, Meta(ge=0, le=100)] = 3  #: tasks that submit one another, after the first
    output_bytes: Size = 10 << 30  #: of one attempt, unless the task says less
    result_bytes: Size = 256 << 10
    line_bytes: Size = 8 << 10  #: of a log line as shown; the raw log has it all
    connections: Count = 10_000  #: open at once; fewer where the system allows fewer open files
    sse_clients: Count = 2000
    sse_buffer: Count = 1000  #: events a slow reader may lag before it is disconnected
    event_ring: Count = 10_000  #: events over all sessions that /events can replay
    idempotency_ttl_s: Annotated[float, Meta(ge=0, le=31_536_000)] = 86_400.0
    resident_sessions: Count = 256  #: idle sessions whose tasks stay in memory
    journal_bytes: Size = 8 << 20  #: of one journal segment
    auth_failures: Count = 20  #: a minute and address, then 429


class Http(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the daemon listens."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8420  #: 0 picks one
    socket: str | None = None  #: path of a unix socket, beside the port
    allow_remote: bool = False  #: must be true to bind anything but loopback
    allowed_hosts: tuple[str, ...] = ()  #: more values of the Host header, beside loopback and `host`
    heartbeat_s: Beat = 10.0  #: comment on an idle event stream


class Log(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The daemon's own log, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"  #: auto: console on a terminal, else json


class Tasks(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every task gets."""

    env_pass: tuple[str, ...] = (
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TZ", "TMPDIR", "TERM",
        "*_PROXY", "*_proxy", "SSL_CERT_*", "PIP_*", "NPM_CONFIG_*", "XDG_*",
    )  #: names of the daemon's own environment that tasks inherit  # fmt: skip


class Settings(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set; each key is documented in agentd.example.yaml and docs/operations.md."""

    data_dir: str = "sessions_data"
    drain_s: Pause = 10.0  #: what running tasks get at a clean stop
    workers: Workers = Workers()
    retention: Retention = Retention(
        tasks=Keep(max_age_s=90 * 86_400.0, max_count=100_000),
        output=Keep(max_age_s=30 * 86_400.0, max_bytes=20 << 30),
        sessions=Keep(),
    )
    limits: Limits = Limits()
    http: Http = Http()
    log: Log = Log()
    tasks: Tasks = Tasks()
    agents: dict[str, tuple[str, ...]] = {}  #: more agents of the kind `agent`: how each is called


FILE_NAME = "agentd.yaml"
MAX_FILE_BYTES = 1 << 20
_OF_CLIENTS = ("CONFIG", "URL", "TOKEN", "SESSION_ID", "TASK_ID", "ATTEMPT", "ARTIFACTS", "RESULT", "OUTPUT")
#: Names that clients and tasks read; they set nothing. AGENTD_WEB_* belongs to the viewer.
NOT_SETTINGS = frozenset(f"{PREFIX}{name}" for name in _OF_CLIENTS)


def every_setting() -> tuple[Setting, ...]:
    """All that can be set, in the order of the example file."""
    return tuple(leaves(Settings()))


def load(
    *, file: Path | None = None, environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> Settings:
    """The settings in force.

    Args:
        file: what --config names; else AGENTD_CONFIG, else ./agentd.yaml if it is there.
        environ: the environment; the process's own if not given.
        flags: dotted keys to values; a value of None was not given.

    Raises:
        ConfigInvalid: naming every wrong key, where it stands and what would be right.
    """
    environ = os.environ if environ is None else environ
    known = {setting.key: setting for setting in every_setting()}
    wrong: list[FieldError] = []
    given: dict[str, Any] = {"data_dir": default_data_dir(environ)}
    layers = (_from_file(file, environ, known, wrong), _from_environment(environ, known, wrong), _from_flags(flags))
    sources: dict[str, str] = {}
    for key, raw, source in (entry for layer in layers for entry in layer):
        try:
            given[key] = read(known[key], raw)
            sources[key] = source
        except ValueError:
            wrong.append(FieldError(key, f"{source}: {key} is {shown(raw)}; it must be {known[key].allowed}"))
    if not wrong:
        settings = _settled(given)
        for key, message in _contradictions(settings):
            wrong.append(FieldError(key, f"{sources.get(key, 'default')}: {key} {message}"))
    if wrong:
        raise ConfigInvalid("\n".join(error.message for error in wrong), errors=wrong)
    return settings


def default_data_dir(environ: Mapping[str, str]) -> str:
    """`sessions_data` in a checkout (where that directory is), else agentd's place in the XDG data directory."""
    if os.path.isdir(Settings().data_dir):
        return Settings().data_dir
    home = environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(home):  # the XDG specification: a relative path is invalid and ignored
        home = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".local", "share")
    return os.path.join(home, "agentd")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on the host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_Entries = Iterator[tuple[str, Any, str]]  # key, raw value, where it stands


def _from_file(
    file: Path | None, environ: Mapping[str, str], known: dict[str, Setting], wrong: list[FieldError]
) -> _Entries:
    named = str(file) if file else environ.get(f"{PREFIX}CONFIG")
    path = Path(named or FILE_NAME)
    if not named and not path.exists():
        return
    import yaml  # here: a daemon without a file does not carry it

    try:
        with open(path, "rb") as stream:
            text = stream.read(MAX_FILE_BYTES + 1)
        if len(text) > MAX_FILE_BYTES:
            raise ConfigInvalid(f"{path}: is larger than {MAX_FILE_BYTES >> 20} MiB; no settings are")
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
    except OSError as error:
        raise ConfigInvalid(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigInvalid(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    sections = {key[:dot] for key in known for dot, letter in enumerate(key) if letter == "."}

    def entries(node: Any, prefix: str) -> _Entries:
        if isinstance(node, yaml.ScalarNode) and loader.construct_object(node) is None:
            return  # a section with every key commented out
        if not isinstance(node, yaml.MappingNode):
            message = f"{path}, line {node.start_mark.line + 1}: {prefix[:-1] or 'the file'} must hold keys and values"
            wrong.append(FieldError(prefix[:-1], message))
            return
        seen: set[str] = set()
        for name, value in node.value:
            place = f"{path}, line {name.start_mark.line + 1}"
            if not isinstance(name, yaml.ScalarNode):
                wrong.append(FieldError(prefix[:-1], f"{place}: the name of a setting must be a text"))
                continue
            key = f"{prefix}{name.value}"
            if key in seen:
                wrong.append(FieldError(key, f"{place}: {key} is set twice; keep one"))
            elif key in sections:
                yield from entries(value, key + ".")
            elif key in known:
                try:
                    yield key, loader.construct_object(value, deep=True), place
                except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:  # a bad !!timestamp
                    wrong.append(FieldError(key, f"{place}: {key}: {' '.join(str(error).split())}"))
            else:
                wrong.append(FieldError(key, f"{place}: {key} is no setting{_near(key, [*known, *sections])}"))
            seen.add(key)

    if root is not None:
        yield from entries(root, "")


def _from_environment(environ: Mapping[str, str], known: dict[str, Setting], wrong: list[FieldError]) -> _Entries:
    variables = {setting.variable: setting for setting in known.values()}
    for name, text in sorted(environ.items()):
        if name in variables:
            setting = variables[name]
            is_list = isinstance(setting.kind, inspect.VarTupleType)
            yield setting.key, [part.strip() for part in text.split(",") if part.strip()] if is_list else text, name
        elif name.startswith(PREFIX) and name not in NOT_SETTINGS and not name.startswith(f"{PREFIX}WEB_"):
            wrong.append(FieldError(name, f"environment: {name} is no setting{_near(name, variables)}"))


def _from_flags(flags: Mapping[str, Any] | None) -> _Entries:
    for key, value in (flags or {}).items():
        if value is not None:
            yield key, value, "--" + key.rpartition(".")[2].replace("_", "-")


#: Of each pair, the first is at most the second.
_ORDERED = (("workers.min", "workers.max"), ("limits.live_tasks_per_session", "limits.live_tasks"))


def _contradictions(settings: Settings) -> Iterator[tuple[str, str]]:
    workers, http, limits = settings.workers, settings.http, settings.limits
    if workers.min > workers.max:
        yield "workers.min", f"is {workers.min}, more than workers.max ({workers.max})"
    if not workers.queues:
        yield "workers.queues", 'is empty, so nothing would ever run; "*" serves every queue'
    if limits.live_tasks_per_session > limits.live_tasks:
        yield "limits.live_tasks_per_session", f"is more than limits.live_tasks ({limits.live_tasks})"
    if not settings.data_dir:
        yield "data_dir", "is empty; name a directory"
    if not http.allow_remote and not is_loopback(http.host):
        yield "http.host", f"is {http.host!r}, which other machines can reach; set http.allow_remote: true to mean it"
    if any("/" in name for name in http.allowed_hosts):
        yield "http.allowed_hosts", "holds a URL; name hosts alone, as agentd.example.org"
    for name, template in settings.agents.items():
        if not re.fullmatch("[a-z][a-z0-9_-]{0,62}", name):
            yield "agents", f"has {name!r}; names are small letters, digits, - and _, and begin with a letter"
        elif not template:
            yield "agents", f"has {name!r} without a program; write it first"
    if http.socket is not None and not 0 < len(os.fsencode(http.socket)) <= 107:
        yield "http.socket", "must be a path of 1 to 107 bytes (unix(7)); choose a shorter one"


def _settled(given: dict[str, Any]) -> Settings:
    defaults = {setting.key: setting.default for setting in every_setting()}
    for lower, upper in _ORDERED:
        if lower not in given and upper in given:  # a default does not stand against what was asked for
            given[lower] = min(defaults[lower], given[upper])
    tree: dict[str, Any] = {}
    for setting in every_setting():
        *path, name = setting.key.split(".")
        section = tree
        for part in path:
            section = section.setdefault(part, {})
        section[name] = given.get(setting.key, setting.default)
    return msgspec.convert(tree, Settings)


def _near(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else "; agentd.example.yaml lists them all"
