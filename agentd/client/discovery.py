"""Where the daemon is: its URL and a token for it."""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from agentd.errors import Unreachable
from agentd.model.reading import read
from agentd.model.task import Value


class Endpoint(NamedTuple):
    """How to reach a daemon; `token` is None where none is known. A unix socket is `unix:///path`."""

    url: str
    token: str | None

    def __repr__(self) -> str:
        return f"Endpoint(url={self.url!r})"  # a token never reaches a log


class _Agent(Value, frozen=True, kw_only=True):
    url: str
    pid: int
    pid_started_at: int | None = None


def discover(data_dir: str | None, environ: Mapping[str, str], *, url: str | None = None) -> Endpoint:
    """The daemon a command means: what a flag names, then AGENTD_URL, then the first data directory that has one.

    The directories are AGENTD_DATA_DIR alone if it is set, else ./sessions_data and the XDG data directory.
    The token is AGENTD_TOKEN, or the `token` file beside the `agent.json` that names the very same URL: the token
    of one daemon is never shown to another. A directory that happens to be where a command is called may be anybody's
    work, a checkout say: its files count if they are this user's alone and name an address of this machine, and
    AGENTD_TOKEN is not told to the daemon that they name.

    Raises:
        Unreachable: no daemon was found, or the one found has ended.
    """
    token = environ.get("AGENTD_TOKEN") or None
    if url is None and data_dir is None:
        url = environ.get("AGENTD_URL") or None
    if url is not None:
        url = url.rstrip("/")
        return Endpoint(url, token or _token_for(url, data_dir, environ))
    looked: list[str] = []
    for directory in data_dirs(data_dir, environ):
        agent = _read_agent(directory)
        if agent is None:
            looked.append(directory if os.path.isdir(directory) else f"{directory} (no such directory)")
            continue
        if not _alive(agent):
            raise Unreachable(
                f"the daemon of {directory} (pid {agent.pid}) has ended; start it with "
                f"`agentd serve --data-dir {directory}`, or set AGENTD_URL and AGENTD_TOKEN if it runs elsewhere"
            )
        named = data_dir or environ.get("AGENTD_DATA_DIR")
        return Endpoint(agent.url, _read_token(directory) or (token if named else None))
    raise Unreachable(
        f"no daemon found: no agent.json in {' or '.join(looked)}; start one with `agentd serve`, "
        "name its directory with --data-dir, or set AGENTD_URL and AGENTD_TOKEN"
    )


def data_dirs(data_dir: str | None, environ: Mapping[str, str]) -> Iterator[str]:
    """The data directories to look in, best first."""
    named = data_dir or environ.get("AGENTD_DATA_DIR")
    if named:
        yield named
        return
    yield "sessions_data"
    home = environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(home):  # the XDG specification: a relative path is invalid and ignored
        home = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".local", "share")
    yield os.path.join(home, "agentd")


def _token_for(url: str, data_dir: str | None, environ: Mapping[str, str]) -> str | None:
    for directory in data_dirs(data_dir, environ):
        agent = _read_agent(directory)
        if agent is not None and agent.url.rstrip("/") == url and _alive(agent):
            return _read_token(directory)
    return None


def _read_agent(directory: str) -> _Agent | None:
    try:
        agent = read(_own_file(directory, "agent.json", 1 << 16), _Agent)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise Unreachable(f"cannot read agent.json in {directory}: {error}") from error
    if not _is_here(agent.url):
        raise Unreachable(f"agent.json in {directory} names {agent.url}, which is not on this machine; use --url")
    return agent


def _read_token(directory: str) -> str | None:
    try:
        return _own_file(directory, "token", 4096).decode("ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _own_file(directory: str, name: str, most: int) -> bytes:
    """A file that a daemon of this user wrote: no link, and nobody else's to read, as nothing that git makes is.

    Raises:
        OSError: there is none.
    """
    path = os.path.join(directory, name)
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
            raise PermissionError(f"{path} is no file of its owner alone; no daemon wrote it so")
        if found.st_uid != os.geteuid() and os.geteuid() != 0:
            raise PermissionError(f"{path} belongs to user {found.st_uid}")
        return file.read(most)


def _is_here(url: str) -> bool:
    """Whether a URL is of this machine: of a socket file, or of an address that can be bound here."""
    if url.startswith("unix:"):
        return True
    try:
        host = urlsplit(url).hostname or ""
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((str(ipaddress.ip_address(host)), 0))
    except (OSError, ValueError):
        return False
    return True


def _alive(agent: _Agent) -> bool:
    """Whether the very process that wrote agent.json still runs: its port may belong to a stranger by now."""
    try:
        with open(f"/proc/{agent.pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return False
    return agent.pid_started_at is None or int(fields[19]) == agent.pid_started_at
