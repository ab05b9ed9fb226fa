"""Settings of the viewer: flags over environment over webui.yaml over defaults; the agents among them may change."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import yaml

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
MAX_AGENTS = 1000
#: Read where the viewer is started, unless --config names another.
CONFIG = Path("webui.yaml")
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("auto", "console", "json")
#: A login that lasts longer outlives its reason.
MAX_LOGIN_HOURS = 24 * 31
#: First segments of the viewer's own paths; a prefix that begins with one could be taken for it.
_OWN = frozenset(
    {"a", "agents", "analytics", "api", "healthz", "history", "live", "login", "logout", "new", "queue", "settings"}
    | {"static", "workers"}
)
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_HOST = re.compile(r"[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:.]+\]?")
_MAX_FILE_BYTES = 1 << 20


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
    agents: tuple[AgentSetting, ...] = ()  #: from flags and environment; those of the file are the roster's
    data_dirs: tuple[str, ...] = ()  #: where local agents are looked for; none: where the CLI looks
    config: Path | None = None  #: webui.yaml, read again when it changes
    secret_file: Path
    public_url: str | None = None  #: how browsers reach it, with a path prefix if it has one
    allowed_hosts: tuple[str, ...] = ()
    trust_forwarded: bool = False  #: whether X-Forwarded-For is a proxy's word, not anybody's
    tls_cert: Path | None = None
    tls_key: Path | None = None
    login_hours: float = 12.0
    log_level: str = "info"
    log_format: str = "auto"

    @property
    def prefix(self) -> str:
        """The path that all URLs begin with; empty without `public_url`."""
        return urlsplit(self.public_url).path.rstrip("/") if self.public_url else ""

    @property
    def secure(self) -> bool:
        """Whether browsers come over TLS."""
        return self.tls_cert is not None or (self.public_url or "").startswith("https:")


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a webui.yaml may say, each as in `Settings`."""

    agents: tuple[AgentSetting, ...] = ()
    host: str | None = None
    port: int | None = None
    data_dirs: tuple[str, ...] | None = None
    secret_file: str | None = None
    public_url: str | None = None
    allowed_hosts: tuple[str, ...] | None = None
    trust_forwarded: bool | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    login_hours: float | None = None
    log_level: str | None = None
    log_format: str | None = None


def load(given: Mapping[str, Any], *, secret_file: Path) -> Settings:
    """The settings: those given by flags and environment, then those of the file, then the defaults.

    Args:
        given: by the names of `Settings`; None, or none of a list, where neither flag nor environment says anything.
        secret_file: where the secret is unless a setting says otherwise.

    Raises:
        SettingsError: one is wrong, or the file is.
    """
    config = given.get("config") or (CONFIG if CONFIG.exists() else None)
    file = read_file(config) if config is not None else File()
    said = {name: value for name, value in msgspec.structs.asdict(file).items() if value is not None}
    said.pop("agents")
    said |= {name: value for name, value in given.items() if value not in (None, ())}
    for name in ("secret_file", "tls_cert", "tls_key"):
        if name in said:
            said[name] = Path(said[name])
    return _checked(Settings(**{"secret_file": secret_file, **said, "config": config}))


def agent_settings(texts: tuple[str, ...], token_files: tuple[str, ...], source: str) -> tuple[AgentSetting, ...]:
    """Agents from `NAME=URL|DIRECTORY`, and for some of them `NAME=FILE` with a token.

    Raises:
        SettingsError: one is neither, or a file is for no agent named here.
    """
    agents = {agent.name: agent for agent in (agent_setting(text, source) for text in texts)}
    for text in token_files:
        name, _, path = text.partition("=")
        if name not in agents or not path:
            raise SettingsError(f"--token-file {text!r}: write NAME=FILE, with the NAME of an --agent")
        agents[name] = msgspec.structs.replace(agents[name], token_file=path)
    return tuple(agents.values())


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
    for field in ("url", "data_dir", "token_file"):
        if not (getattr(agent, field) or "").isprintable():
            raise SettingsError(f"agent {agent.name!r}: {field} has a control character in it; write it in one line")
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


def read_file(path: Path) -> File:
    """What a webui.yaml says; an empty file says nothing.

    Raises:
        SettingsError: it cannot be read, or holds what no setting is.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_MAX_FILE_BYTES + 1)
        if len(text) > _MAX_FILE_BYTES:
            raise SettingsError(f"{path}: a file of settings has at most {_MAX_FILE_BYTES >> 20} MiB")
        settings = msgspec.convert(yaml.safe_load(text) or {}, File)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except msgspec.ValidationError as error:
        raise SettingsError(f"{path}: {_field_first(str(error))}") from error
    except (ValueError, AttributeError, yaml.YAMLError, RecursionError) as error:  # a bad !!timestamp has no attribute
        raise SettingsError(f"{path}: it is not YAML: {error}") from error
    if len(settings.agents) > MAX_AGENTS:
        raise SettingsError(f"{path}: agents: there are {len(settings.agents)}; a viewer shows {MAX_AGENTS} at most")
    for name, times in Counter(checked(agent).name for agent in settings.agents).items():
        if times > 1:
            raise SettingsError(f"{path}: agents: {name!r} is there twice; each needs a name of its own")
    return settings


def _field_first(message: str) -> str:
    """`Expected `int`, got `str` - at `$.port`` as `port: expected `int`, got `str``."""
    what, _, field = message.partition(" - at `$.")
    if "unknown field" in what:
        what += f"; there are {', '.join(File.__struct_fields__)}" if not field else ""
    what = what[0].lower() + what[1:]
    return f"{field.rstrip('`')}: {what}" if field else what


def _checked(settings: Settings) -> Settings:
    if not 0 <= settings.port <= 65_535:
        raise SettingsError(f"port: {settings.port} is not one; give 0 to 65535, 0 picks a free one")
    if not _HOST.fullmatch(settings.host):
        raise SettingsError(f"host: {settings.host!r} is no address to listen on, such as 127.0.0.1 or ::")
    for host in settings.allowed_hosts:
        if not _HOST.fullmatch(host):
            raise SettingsError(f"allowed_hosts: {host!r} is no name of a host; write it without scheme, port and path")
    if settings.public_url is not None:
        _check_public(settings.public_url)
    if settings.tls_key is not None and settings.tls_cert is None:
        raise SettingsError("tls_key: it needs its certificate too: give tls_cert")
    if not 0 < settings.login_hours <= MAX_LOGIN_HOURS:
        raise SettingsError(f"login_hours: must be more than 0 and at most {MAX_LOGIN_HOURS}")
    for name, allowed in (("log_level", LOG_LEVELS), ("log_format", LOG_FORMATS)):
        if getattr(settings, name) not in allowed:
            raise SettingsError(f"{name}: {getattr(settings, name)!r} is not one of {', '.join(allowed)}")
    return settings


def _check_public(url: str) -> None:
    example = "write it as https://example.org/agentd"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.username is not None or parts.query or parts.fragment:
        raise SettingsError(f"public_url: {url!r} is not an http or https URL without a user and a query; {example}")
    prefix = parts.path.rstrip("/")
    if not _PREFIX.fullmatch(prefix):
        raise SettingsError(f"public_url: the path {prefix!r} may have letters, digits and . _ ~ - only; {example}")
    if prefix and prefix.split("/")[1] in _OWN:
        raise SettingsError(f"public_url: the path {prefix!r} begins as one of the viewer's own pages; {example}")
