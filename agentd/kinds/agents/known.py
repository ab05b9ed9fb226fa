"""Which agents there are: those with a module of their own, and those that the settings describe."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from agentd.kinds.agents.claude import Claude
from agentd.kinds.agents.codex import Codex
from agentd.kinds.agents.command import Command
from agentd.kinds.agents.opencode import OpenCode
from agentd.kinds.agents.protocol import Adapter

#: What drivers keep in a home: what was used so far, and where the session was.
USAGE, PLACE = "agentd-usage.json", "agentd-place.txt"
OWN_FILES = (USAGE, PLACE)


def adapters(templates: Mapping[str, tuple[str, ...]] | None = None) -> dict[str, Adapter]:
    """Every agent by its name; a template of the settings takes the place of one that is built in."""
    built_in: tuple[Adapter, ...] = (Claude(), Codex(), OpenCode())
    described = {name: Command(name, template) for name, template in (templates or {}).items()}
    return {**{adapter.name: adapter for adapter in built_in}, **described}


def goes_along(path: str) -> bool:
    """Whether a file of a session's `home/` belongs to the session where that is exported or imported.

    Conversations do, and what our drivers keep; not logins, settings, and programs: a home is made again without them,
    and by them whoever packed an archive would run programs where it is unpacked. Of an agent that the settings
    describe all files go: nobody here knows them.
    """
    agent, _, file = path.partition("/")
    adapter = adapters().get(agent)
    patterns = adapter.remembered.files if adapter is not None else ("*",)
    return file in OWN_FILES or any(fnmatchcase(file, pattern) for pattern in patterns)
