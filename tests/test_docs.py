"""The documents say what is so: settings, decisions, commands, links, dependencies, words of the interface."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from agentd.cli.main import COMMANDS, cli
from agentd.config import NOT_SETTINGS, every_setting
from agentd.errors import AgentdError, by_code
from agentd.kinds.agent import AgentSpec
from agentd.kinds.agents.steps import Detail
from agentd.model.events import ANNOUNCED, EVENT_TYPES
from agentd.model.session import Policy
from agentd.model.task import CauseCode, State
from agentd.setting import read
from webui.main import main as viewer_command
from webui.settings import File

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(p for d in ("docs", "examples", "scripts") for p in (ROOT / d).rglob("*.md"))])
PAGES.append(ROOT / "sessions_data" / "README.md")
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
NOT_SENT = {
    "internal",
    "already_running",
    "config_invalid",
    "format_too_new",
    "unreachable",
    "slow_reader",
    "bus_closed",
}


def text(name: str) -> str:
    return (ROOT / name).read_text()


def commands(page: str) -> Iterator[str]:
    """Lines of code blocks that begin with a program of ours."""
    for block in re.findall(r"^```\w*\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith(("scripts/", ".venv/bin/")):
                yield line


def test_operations_lists_every_setting_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| `([^|]*)` \|", text("docs/operations.md"), re.MULTILINE))
    assert list(rows) == [setting.key for setting in every_setting()]
    for setting in every_setting():
        if not isinstance(setting.default, tuple | dict):
            assert read(setting, rows[setting.key]) == setting.default, setting.key


def test_the_viewers_page_lists_every_flag_with_its_variable_and_key() -> None:
    rows = re.findall(r"^\| `(--[a-z-]+)` \| `(\w+)` \|([^|]*)\|", text("docs/viewer.md"), re.MULTILINE)
    options = [each for each in viewer_command.params if isinstance(each, click.Option)]
    assert [(flag, variable) for flag, variable, _ in rows] == [
        (option.opts[0], f"AGENTD_WEB_{(option.name or '').upper()}") for option in options
    ]
    keys = {key.strip(" `") for _, _, key in rows if "`" in key and " in " not in key}
    assert keys == set(File.__struct_fields__)


def test_every_decision_is_in_the_index_and_says_what_why_and_at_what_cost() -> None:
    pages = {page.name: page.read_text() for page in (ROOT / "docs/adr").glob("[0-9]*.md")}
    index = re.findall(r"^\| \[(\d{4})\]\(([^)]+)\) \| (.+) \|$", text("docs/adr/README.md"), re.MULTILINE)
    assert [name for _, name, _ in index] == sorted(pages)
    for number, name, title in index:
        assert name.startswith(number)
        assert pages[name].startswith(f"# {int(number)}. {title}\n")
        assert re.findall(r"^\*\*(\w+)\.\*\*", pages[name], re.MULTILINE) == ["Decided", "Why", "Costs"]


def test_every_policy_and_every_variable_of_a_task_is_in_its_table() -> None:
    page = text("docs/operations.md")
    assert {name for name in Policy.__struct_fields__ if f"\n| `{name}` |" not in page} == set()
    rows = page.partition("### What a task finds")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(AGENTD_\w+)`", rows)) <= NOT_SETTINGS, (
        "a daemon that a task starts takes it for a setting"
    )


def test_the_workflow_on_its_page_is_that_of_the_examples_and_every_example_is_listed() -> None:
    page = text("docs/workflows.md")
    assert f"```yaml workflow\n{text('examples/build.yaml')}```\n" in page
    listed = set(re.findall(r"^\| \[([^]]+)\]", text("examples/README.md"), re.MULTILINE))
    assert listed == {path.name for path in (ROOT / "examples").iterdir() if path.is_file()} - {"README.md"}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_command_shown_exists(page: str) -> None:
    shown = list(commands(page))
    assert shown
    for line in shown:
        program, *arguments = line.split()
        if program == ".venv/bin/agentd":
            assert arguments[0] in COMMANDS
        else:
            assert os.access(ROOT / program, os.X_OK), program


def test_every_command_of_the_command_line_is_a_module() -> None:
    for module in COMMANDS:
        assert (ROOT / "agentd" / "cli" / f"{module}.py").exists()


def test_what_a_command_does_is_told_whole_in_a_list_of_80_columns() -> None:
    context = click.Context(cli)
    every = {name: each for name in COMMANDS if (each := cli.get_command(context, name)) is not None}
    for commands in (every, *(each.commands for each in every.values() if isinstance(each, click.Group))):
        room = 80 - 2 - 6 - max(map(len, commands))
        assert [name for name, each in commands.items() if each.get_short_help_str(room).endswith("...")] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        aim = (page.parent / path).resolve() if path else page
        assert aim.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", aim.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, target


def test_the_interface_is_documented_down_to_its_words() -> None:
    api = text("docs/api.md")
    codes = {code for code, cls in by_code().items() if cls.__module__ == AgentdError.__module__} - NOT_SENT
    types = {str(cls.__struct_config__.tag) for cls in ANNOUNCED} | EVENT_TYPES
    assert {word for word in codes | types if f"`{word}`" not in api} == set()
    agents = text("docs/agents.md")
    words = {*Detail, *AgentSpec.__struct_fields__} - {Detail.NOT_FOUND}
    assert {word for word in words if f"`{word}`" not in agents} == set()
    ends = text("docs/operations.md")
    assert {word for word in [*CauseCode, *State] if f"`{word}`" not in ends} == set()
    rows = re.findall(r"^\| `(\w+)` \| (?:completed|failed|timeout|cancelled) \|", ends, re.MULTILINE)
    assert sorted(rows) == sorted(CauseCode)


def test_every_script_is_listed_and_can_run() -> None:
    listed = set(re.findall(r"^\| `(\w+)", text("scripts/README.md"), re.MULTILINE))
    scripts = {path for path in (ROOT / "scripts").iterdir() if path.is_file() and not path.suffix}
    assert listed == {path.name for path in scripts}
    for path in [*scripts, ROOT / ".ci/run", *(ROOT / "examples").glob("*.sh")]:
        assert subprocess.run(["sh", "-n", path], check=False).returncode == 0
        assert os.access(path, os.X_OK) == (path.name != "setup"), path


def test_every_dependency_is_explained_and_pinned() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    explained = set(re.findall(r"^\| ([\w-]+) \|", text("docs/dependencies.md"), re.MULTILINE)) - {
        "library",
        "file",
        "---",
    }
    wanted = {re.split(r"[<>=]", dependency)[0] for dependency in project["dependencies"]}
    assert {name.lower() for name in explained} == wanted
    pinned = re.findall(r"^([\w.-]+)==[\w.]+$", text("requirements.txt"), re.MULTILINE)
    assert wanted <= {name.lower().replace("_", "-") for name in pinned}
    lines = [line for line in text("requirements.txt").splitlines() if line and not line.startswith("#")]
    assert len(pinned) == len(lines)


def test_the_pages_speak_of_nothing_but_the_product() -> None:
    for page in PAGES:
        assert not re.search(r"/work/|/tmp/|/root/|TODO|FIXME|XXX", page.read_text()), page
