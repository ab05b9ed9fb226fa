"""Settings of the viewer: flags over environment over webui.yaml over defaults; the agents among them may change."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import yaml

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
MAX_AGENTS = 1000


class SettingsError(Exception):
    """A setting is wrong; the message names it and the remedy."""


class AgentSetting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One agent: a URL with the file of a token, or the data directory of a daemon on this machine."""

    name: str
    url: str | None = None
    data_dir: str | None = None
    token_file: str | None = None
    source: str = "file"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the viewer was started with."""

    host: str = "127.0.0.1"
    port: int = 8421
    agents: tuple[AgentSetting, ...] = ()  #: from flags and environment
    data_dirs: tuple[str, ...] = ()  #: where local agents are looked for; none: where the CLI looks
    config: Path | None = None  #: webui.yaml, read again when it changes
    secret_file: Path
    public_url: str | None = None  #: how browsers reach it, with a path prefix if it has one
    allowed_hosts: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    login_hours: float = 12.0

    @property
    def prefix(self) -> str:
        """The path that all URLs begin with; empty without `public_url`."""
        return urlsplit(self.public_url).path.rstrip("/") if self.public_url else ""

    @property
    def secure(self) -> bool:
        """Whether browsers come over TLS."""
        return self.tls_cert is not None or (self.public_url or "").startswith("https:")


def agent_setting(text: str, source: str) -> AgentSetting:
    """An agent from `NAME=URL` or `NAME=DIRECTORY`.

    Raises:
        SettingsError: it is neither.
    """
    name, equals, target = text.partition("=")
    if not equals or not target:
        raise SettingsError(f"--agent {text!r}: write NAME=URL, or NAME=DIRECTORY for a daemon on this machine")
    if re.match(r"(https?|unix):", target):
        return checked(AgentSetting(name=name, url=target.rstrip("/"), source=source))
    return checked(AgentSetting(name=name, data_dir=target, source=source))


def checked(agent: AgentSetting) -> AgentSetting:
    """The setting itself.

    Raises:
        SettingsError: the name or URL cannot be one.
    """
    if not NAME.fullmatch(agent.name):
        raise SettingsError(
            f"agent {agent.name!r}: a name has 1 to 63 of A-Z a-z 0-9 . _ - and begins with a letter or digit"
        )
    if (agent.url is None) == (agent.data_dir is None):
        raise SettingsError(f"agent {agent.name!r}: give it either a url or a data_dir")
    if agent.url is not None:
        try:
            parts = urlsplit(agent.url)
            usable = parts.scheme == "unix" or (parts.scheme in ("http", "https") and bool(parts.hostname))
            usable = usable and parts.username is None and (parts.port is None or parts.port > 0)
        except ValueError:
            usable = False
        if not usable:
            raise SettingsError(f"agent {agent.name!r}: {agent.url!r} is not an http, https or unix URL without a user")
    return agent


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    agents: tuple[AgentSetting, ...] = ()
    host: str | None = None
    port: int | None = None
    public_url: str | None = None
    allowed_hosts: tuple[str, ...] | None = None
    login_hours: float | None = None


def read_file(path: Path) -> _File:
    """What a webui.yaml says; an empty file says nothing.

    Raises:
        SettingsError: it cannot be read, or holds what no setting is.
    """
    try:
        with open(path, encoding="utf-8") as file:
            found = yaml.safe_load(file.read(1 << 20))
        settings = msgspec.convert(found or {}, _File)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError, RecursionError) as error:
        raise SettingsError(f"{path}: {error}") from error
    for agent in settings.agents:
        checked(agent)
    return settings
