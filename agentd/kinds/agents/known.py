"""Which agents there are: those with a module of their own, and those that the settings describe."""

from __future__ import annotations

from collections.abc import Mapping

from agentd.kinds.agents.claude import Claude
from agentd.kinds.agents.codex import Codex
from agentd.kinds.agents.command import Command
from agentd.kinds.agents.opencode import OpenCode
from agentd.kinds.agents.protocol import Adapter


def adapters(templates: Mapping[str, tuple[str, ...]] | None = None) -> dict[str, Adapter]:
    """Every agent by its name; a template of the settings takes the place of one that is built in."""
    built_in: tuple[Adapter, ...] = (Claude(), Codex(), OpenCode())
    described = {name: Command(name, template) for name, template in (templates or {}).items()}
    return {**{adapter.name: adapter for adapter in built_in}, **described}
