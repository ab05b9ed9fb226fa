"""A user's machine on which every agent CLI is set up to ask a scripted model.

They are those that `scripts/clis` installed, or of the directory that TEST_CLIS names, or of PATH.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from agentd.kinds.agents.known import adapters
from tests.scripted_model import ScriptedModel

AGENTS = ("claude", "codex", "opencode")
INSTALLED = Path(__file__).parents[1] / ".clis/node_modules/.bin"
PATH = os.pathsep.join([os.environ.get("TEST_CLIS", str(INSTALLED)), os.environ.get("PATH", os.defpath)])


def needed(name: str) -> str:
    """The agent's name; skips the test where its CLI is not installed."""
    adapter = adapters()[name]
    if shutil.which(adapter.program, path=PATH) is None:
        pytest.skip(f"{name} is not installed: scripts/clis, or {adapter.install}")
    return name


def set_up(home: Path, model: ScriptedModel) -> None:
    """Write what a user of codex and opencode has in their home."""
    codex = home / ".codex"
    codex.mkdir(parents=True)
    (codex / "config.toml").write_text(
        'model = "scripted"\nmodel_provider = "scripted"\n[model_providers.scripted]\nname = "scripted"\n'
        f'base_url = "{model.url}/v1"\nenv_key = "SCRIPTED_KEY"\nwire_api = "responses"\n'
        "request_max_retries = 1\nstream_max_retries = 1\n"
    )
    opencode = home / ".config" / "opencode"
    opencode.mkdir(parents=True)
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{model.url}/v1", "apiKey": "x"},
        "models": {"scripted": {}},
    }
    settings = {
        "provider": {"scripted": provider},
        "enabled_providers": ["scripted"],
        "model": "scripted/scripted",
        "small_model": "scripted/scripted",
    }
    (opencode / "opencode.json").write_text(json.dumps(settings))


def variables(agent: str, model: ScriptedModel) -> dict[str, str]:
    """What the agent's CLI is told in its environment."""
    return {
        "claude": {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "x", "CLAUDE_CODE_MAX_RETRIES": "1"},
        "codex": {"SCRIPTED_KEY": "x"},
        "opencode": {"OPENCODE_DISABLE_MODELS_FETCH": "1"},
    }[agent]
