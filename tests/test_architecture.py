"""The house: who may import whom, who may change a state, how long a module may get, and what nothing is called."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]


class House(NamedTuple):
    """One of the packages: `floors` from the ground; a module imports only from strictly lower ones.

    Within one room it is free. `libraries` says which rooms may use one; None is all, and one that is not listed may
    be used by nobody.
    """

    name: str
    floors: tuple[frozenset[str], ...]
    libraries: dict[str, set[str] | None]
    foreign: frozenset[str] = frozenset()  #: what it may import of the other houses

    @property
    def modules(self) -> list[Path]:
        return sorted((ROOT / self.name).rglob("*.py"))

    def floor_of(self, room: str) -> int:
        return next(number for number, rooms in enumerate(self.floors) if room in rooms)


GROUND = House(
    "hosting",
    (frozenset({"__init__", "connections", "lines"}),),
    {"aiohttp": {"connections"}, "msgspec": {"lines"}, "structlog": {"lines"}},
)
DAEMON = House(
    "agentd",
    (
        frozenset({"__init__", "errors", "clock", "setting"}),
        frozenset({"model"}),
        frozenset({"config"}),  # above the model, since a setting of retention is the model's value
        frozenset({"log", "bus", "scopes"}),
        frozenset({"store", "kinds", "engines"}),
        frozenset({"placing", "lanes", "workflows"}),
        frozenset({"service"}),
        frozenset({"queueing", "deadlines"}),
        frozenset({"budgets"}),
        frozenset({"scheduler"}),
        frozenset({"http", "client"}),
        frozenset({"daemon"}),
        frozenset({"serving"}),
        frozenset({"cli", "drivers", "__main__"}),
    ),
    {
        "msgspec": None,
        "structlog": {"log", "daemon", "http", "service", "scheduler", "engines", "store"},
        "aiodocker": {"drivers"},
        "aiohttp": {"http", "client", "daemon", "drivers"},
        "click": {"cli"},
        "filelock": {"store", "http"},
        "multidict": {"http"},  # aiohttp's own, as is yarl
        "yarl": {"client"},
        "prometheus_client": {"http", "daemon"},
        "yaml": {"config", "workflows"},
    },
    frozenset({"hosting.connections", "hosting.lines"}),
)
VIEWER = House(
    "webui",
    (
        frozenset({"__init__", "contact", "identity", "refusals", "settings", "schema_form", "words"})
        | {"blotting", "charts", "graph", "log", "packing", "running", "turns"},
        frozenset({"assets", "failures", "forms", "links", "secret", "upstream"})
        | {"analysis", "causes", "clocks", "connections", "spending", "typed"},
        frozenset({"commands", "doorkeeper", "feed", "passing", "roster"}),
        frozenset({"visit"}),
        frozenset({"rendering", "rows"}),
        frozenset({"routes", "description", "happenings", "login", "merging", "tasklist", "totals"}),
        frozenset({"logs", "phases", "timeline"}),
        frozenset({"ticks"}),
        frozenset({"actions", "api", "pages"}),
        frozenset({"app"}),
        frozenset({"serving"}),
        frozenset({"main"}),
    ),
    {
        "aiohttp": None,
        "msgspec": None,
        "structlog": {"app", "log", "login", "roster", "serving"},
        "click": {"main"},
        "cryptography": {"identity"},
        "jinja2": {"rendering"},
        "markupsafe": {"logs", "rendering", "words"},  # jinja2's own
        "yaml": {"settings"},
        "yarl": {"app", "upstream"},
    },
    frozenset({"agentd.client", "hosting.connections", "hosting.lines"}),
)
HOUSES = {house.name: house for house in (GROUND, DAEMON, VIEWER)}

MODULE_LINES = 320
BANNED_MODULES = {"utils", "util", "helpers", "helper", "common", "manager", "base", "core", "misc", "data", "info"}
BANNED_CLASSES = re.compile(r"(Manager|Helper|Util|Utils|Base|Handler)$")

MODULES = [path for house in HOUSES.values() for path in house.modules]
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]
every_module = pytest.mark.parametrize("path", MODULES, ids=NAMES)
every_house = pytest.mark.parametrize("house", HOUSES.values(), ids=HOUSES)


def house_of(path: Path) -> House:
    return HOUSES[path.relative_to(ROOT).parts[0]]


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[1].removesuffix(".py")


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Dotted names that a module imports, wherever in it, with their lines."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*origin, *filter(None, [node.module])])
            names = [f"{module}.{alias.name}" for alias in node.names] if module in HOUSES else [module]
            yield from ((name, node.lineno) for name in names)


@every_module
def test_a_module_imports_only_from_lower_floors(path: Path) -> None:
    house, room = house_of(path), room_of(path)
    upward = []
    for name, line in imported(path):
        if name.split(".")[0] != house.name:
            continue
        other = name.split(".")[1] if not name.endswith("__version__") else "__init__"
        if other != room and house.floor_of(other) >= house.floor_of(room):
            upward.append(f"line {line} imports {name}")
    assert not upward


@every_module
def test_a_house_knows_of_another_only_what_is_listed(path: Path) -> None:
    house = house_of(path)
    for name, line in imported(path):
        if name.split(".")[0] in HOUSES.keys() - {house.name}:
            assert name in house.foreign, f"line {line}: {house.name} imports {name}"


@every_house
def test_every_room_has_a_floor_and_every_floor_is_used(house: House) -> None:
    rooms = {room_of(path) for path in house.modules}
    listed = frozenset().union(*house.floors)
    assert rooms - listed == set()
    assert listed - rooms <= {"__main__"}
    assert sum(map(len, house.floors)) == len(listed)


@every_module
def test_a_library_is_used_only_in_its_rooms(path: Path) -> None:
    libraries = house_of(path).libraries
    for name, line in imported(path):
        library = name.split(".")[0]
        if library in HOUSES or library in sys.stdlib_module_names:
            continue
        assert library in libraries, f"line {line}: {library} is in no list of dependencies"
        rooms = libraries[library]
        assert rooms is None or room_of(path) in rooms, f"line {line}: {library} has no business here"


@every_module
def test_nothing_but_the_model_gives_a_task_a_state(path: Path) -> None:
    if house_of(path) is not DAEMON or room_of(path) == "model":
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
        for path in DAEMON.modules
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
    assert not set(path.relative_to(ROOT).with_suffix("").parts) & BANNED_MODULES
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
