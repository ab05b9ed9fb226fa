"""Which agents there are: those configured, and the daemons of this machine found by their agent.json.

A configured agent never disappears, whatever becomes of it; it is only said what is wrong with it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import structlog

from agentd.client import Unreachable, data_dirs, discover
from webui.settings import MAX_AGENTS, AgentSetting, Settings, SettingsError, read_file
from webui.upstream import Agent

#: The files behind the roster are looked at again after so long.
LOOK_S = 0.5
_MAX_TOKEN_BYTES = 4096


class Roster:
    """The agents as they are now; files are read again when they changed."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._from_file: tuple[AgentSetting, ...] = ()
        self._file_version: tuple[int, ...] | None = ()
        self._looked_at = float("-inf")
        self._agents: dict[str, Agent] = {}
        self.file_problem: str | None = None  #: why webui.yaml is not what counts now

    def agents(self) -> tuple[Agent, ...]:
        """All of them, in the order of their configuration, local ones last."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._agents = {agent.name: agent for agent in self._found()}
        return tuple(self._agents.values())

    def named(self, name: str) -> Agent | None:
        """The agent of this name, if there is one."""
        return next((agent for agent in self.agents() if agent.name == name), None)

    def _found(self) -> Iterator[Agent]:
        self._read_file_again()
        settings: dict[str, AgentSetting] = {}
        for setting in (*self._settings.agents, *self._from_file):
            settings.setdefault(setting.name, setting)  # a flag stands over the file
        agents = [self._agent(setting) for setting in list(settings.values())[:MAX_AGENTS]]
        yield from agents
        directories = {os.path.realpath(setting.data_dir) for setting in settings.values() if setting.data_dir}
        urls = {agent.url for agent in agents}
        taken = set(settings)
        for directory in self._settings.data_dirs or data_dirs(None, self._environ):
            if os.path.realpath(directory) in directories or not os.path.exists(os.path.join(directory, "format.json")):
                continue
            name = _free_name(directory, taken)
            taken.add(name)
            directories.add(os.path.realpath(directory))
            found = self._agent(AgentSetting(name=name, data_dir=directory, source="local"))
            if not found.url or found.url not in urls:  # else it was configured, by its URL
                yield found

    def _agent(self, setting: AgentSetting) -> Agent:
        if setting.url is not None:
            return Agent(name=setting.name, url=setting.url, token=_token(setting), source=setting.source)
        assert setting.data_dir is not None
        try:
            url, token = discover(setting.data_dir, {})
        except Unreachable as error:
            return Agent(name=setting.name, url="", source=setting.source, problem=error.detail)
        return Agent(name=setting.name, url=url, token=_token(setting) or token, source=setting.source)

    def _read_file_again(self) -> None:
        path = self._settings.config
        if path is None:
            return
        try:
            found = os.stat(path)
            version: tuple[int, ...] | None = (found.st_mtime_ns, found.st_ino, found.st_size)
        except OSError:
            version = None
        if version == self._file_version:
            return
        self._file_version = version
        try:
            self._from_file = read_file(path).agents
            self.file_problem = None
        except SettingsError as error:  # what counted before goes on counting: an agent never disappears by a typo
            self.file_problem = str(error)
            structlog.get_logger().error("webui.settings_refused", reason=str(error))


def _token(setting: AgentSetting) -> str | None:
    if setting.token_file is None:
        return None
    try:
        with open(setting.token_file, encoding="ascii") as file:
            return file.read(_MAX_TOKEN_BYTES).strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _free_name(directory: str, taken: set[str]) -> str:
    """A name for a local agent: `local`, or after its directory when there are several."""
    wanted = "local"
    if wanted in taken:
        wanted = re.sub(r"[^A-Za-z0-9_.-]", "-", Path(os.path.realpath(directory)).name).strip("._-")[:60] or wanted
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}-{number}", number + 1
    return name
