"""The house: who may import whom, who may change a state, how long a module may get, and what nothing is called."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "agentd"

#: From the ground. A module imports only from strictly lower floors; within one package it is free.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"__init__", "errors", "clock", "setting"}),
    frozenset({"model"}),
    frozenset({"config"}),  # above the model, since a setting of retention is the model's value
    frozenset({"log", "bus", "scopes"}),
    frozenset({"store", "kinds", "engines"}),
    frozenset({"placing", "lanes"}),
    frozenset({"service"}),
    frozenset({"queueing", "deadlines"}),
    frozenset({"scheduler"}),
    frozenset({"http", "client"}),
    frozenset({"daemon"}),
    frozenset({"cli", "__main__"}),
)

#: Rooms that may use a library; one that is not listed here may be used by nobody.
LIBRARIES = {
    "msgspec": None,  # everywhere
    "structlog": {"log", "daemon", "http", "service", "scheduler", "engines", "store"},
    "aiohttp": {"http", "client", "daemon"},
    "click": {"cli"},
    "filelock": {"store", "http"},
    "multidict": {"http"},  # aiohttp's own, as is yarl
    "yarl": {"client"},
    "prometheus_client": {"http", "daemon"},
    "yaml": {"config"},
}

MODULE_LINES = 320
BANNED_MODULES = {"utils", "util", "helpers", "helper", "common", "manager", "base", "core", "misc", "data", "info"}
BANNED_CLASSES = re.compile(r"(Manager|Helper|Util|Utils|Base|Handler)$")

MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]
every_module = pytest.mark.parametrize("path", MODULES, ids=NAMES)


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Dotted names that a module imports, wherever in it, with their lines."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*origin, *filter(None, [node.module])])
            names = [f"agentd.{alias.name}" for alias in node.names] if module == "agentd" else [module]
            yield from ((name, node.lineno) for name in names)


@every_module
def test_a_module_imports_only_from_lower_floors(path: Path) -> None:
    room = room_of(path)
    upward = []
    for name, line in imported(path):
        if name.split(".")[0] != "agentd":
            continue
        other = name.split(".")[1] if not name.endswith("__version__") else "__init__"
        if other != room and floor_of(other) >= floor_of(room):
            upward.append(f"line {line} imports {name}")
    assert not upward


def test_every_room_has_a_floor_and_every_floor_is_used() -> None:
    rooms = {room_of(path) for path in MODULES}
    listed = frozenset().union(*FLOORS)
    assert rooms - listed == set()
    assert listed - rooms <= {"__main__"}
    assert sum(map(len, FLOORS)) == len(listed)


@every_module
def test_a_library_is_used_only_in_its_rooms(path: Path) -> None:
    for name, line in imported(path):
        library = name.split(".")[0]
        if library == "agentd" or library in sys.stdlib_module_names:
            continue
        assert library in LIBRARIES, f"line {line}: {library} is in no list of dependencies"
        rooms = LIBRARIES[library]
        assert rooms is None or room_of(path) in rooms, f"line {line}: {library} has no business here"


@every_module
def test_nothing_but_the_model_gives_a_task_a_state(path: Path) -> None:
    if room_of(path) == "model":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        assert called not in {"moved", "force_setattr"}, f"line {node.lineno}: record an event instead of {called}()"
        if called == "replace":
            set_here = {keyword.arg for keyword in node.keywords}
            assert not set_here & {"state", "transitions"}, f"line {node.lineno}: record an event to change a state"


def test_states_move_in_one_place() -> None:
    callers = {
        path.name
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "moved"
    }
    assert callers == {"changes.py"}


@every_module
def test_a_module_stays_short_says_what_it_is_and_is_named_for_it(path: Path) -> None:
    text = path.read_text()
    lines = text.count("\n")
    assert lines <= MODULE_LINES
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module begins with what it is"
    assert not set(path.relative_to(PACKAGE).with_suffix("").parts) & BANNED_MODULES
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            assert not BANNED_CLASSES.search(node.name), f"{node.name}: name it for what it does"
        if isinstance(node, ast.Global):
            pytest.fail(f"line {node.lineno}: no module-level state")


@every_module
def test_what_is_public_has_a_docstring(path: Path) -> None:
    silent = [
        f"line {node.lineno}: {node.name}"
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not silent
