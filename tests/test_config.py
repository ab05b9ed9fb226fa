"""Settings: where they come from, which wins, and what a wrong one is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentd.config import NOT_SETTINGS, Settings, default_data_dir, every_setting, is_loopback, load
from agentd.errors import ConfigInvalid
from agentd.setting import read

EXAMPLE = Path(__file__).parents[1] / "agentd.example.yaml"
HOME = {"HOME": "/home/ada"}
SETTINGS = {setting.key: setting for setting in every_setting()}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def yaml_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "settings.yaml"
        path.write_text(text)
        return path

    return write


def refused(
    file: Path | None = None, environ: dict[str, str] | None = None, flags: dict[str, Any] | None = None
) -> str:
    with pytest.raises(ConfigInvalid) as caught:
        load(file=file, environ=environ or HOME, flags=flags)
    return caught.value.detail


def test_without_anything_the_defaults_hold() -> None:
    settings = load(environ=HOME)
    assert settings.data_dir == "/home/ada/.local/share/agentd"
    assert settings == Settings(data_dir=settings.data_dir)


def test_flags_are_over_the_environment_over_the_file_over_the_defaults(yaml_file: Callable[[str], Path]) -> None:
    file = yaml_file("http: {port: 1, host: localhost}\nworkers: {max: 3, max_tasks: 7}\n")
    environ = {**HOME, "AGENTD_HTTP_PORT": "2", "AGENTD_WORKERS_MAX": "4"}
    settings = load(file=file, environ=environ, flags={"http.port": 5, "http.host": None})
    assert (settings.http.port, settings.workers.max, settings.workers.max_tasks) == (5, 4, 7)
    assert settings.http.host == "localhost"  # the flag was not given
    assert settings.workers.grace_s == Settings().workers.grace_s


def test_agentd_yaml_is_read_where_the_daemon_starts() -> None:
    Path("agentd.yaml").write_text("workers: {max: 9}")
    assert load(environ=HOME).workers.max == 9


def test_the_environment_can_name_the_file_and_the_flag_is_over_it(yaml_file: Callable[[str], Path]) -> None:
    Path("agentd.yaml").write_text("workers: {max: 9}")
    Path("other.yaml").write_text("workers: {max: 8}")
    environ = {**HOME, "AGENTD_CONFIG": "other.yaml"}
    assert load(environ=environ).workers.max == 8
    assert load(environ=environ, file=yaml_file("workers: {max: 7}")).workers.max == 7


def test_an_empty_file_and_an_empty_section_set_nothing(yaml_file: Callable[[str], Path]) -> None:
    assert load(file=yaml_file(""), environ=HOME) == load(file=yaml_file("workers:\n  # max: 3\n"), environ=HOME)


def test_the_data_directory_of_a_checkout_is_beside_the_code(tmp_path: Path) -> None:
    assert default_data_dir({"XDG_DATA_HOME": "/data"}) == "/data/agentd"
    assert default_data_dir({**HOME, "XDG_DATA_HOME": "relative"}) == "/home/ada/.local/share/agentd"
    (tmp_path / "sessions_data").mkdir()
    assert default_data_dir({"XDG_DATA_HOME": "/data"}) == "sessions_data"


@pytest.mark.parametrize(
    ("key", "raw", "value"),
    [
        ("drain_s", "500ms", 0.5), ("drain_s", "10s", 10.0), ("drain_s", "5m", 300.0), ("drain_s", "2 h", 7200.0),
        ("retention.tasks.max_age_s", "7d", 604_800.0), ("retention.tasks.max_age_s", "1.5w", 907_200.0),
        ("drain_s", 3, 3.0), ("drain_s", "2.5", 2.5), ("limits.body_bytes", "10MiB", 10 << 20),
        ("limits.body_bytes", "2GB", 2 * 10**9), ("limits.body_bytes", "64 kib", 64 << 10), ("limits.body_bytes", 7, 7),
        ("limits.body_bytes", "1.5KiB", 1536), ("http.port", "0", 0), ("http.port", 80.0, 80),
        ("http.allow_remote", "Yes", True), ("http.allow_remote", "0", False), ("http.allow_remote", True, True),
        ("retention.tasks.max_count", None, None), ("retention.tasks.max_count", "none", None),
        ("log.level", "debug", "debug"), ("workers.queues", ["a", "b"], ("a", "b")),
        ("http.socket", "", None),
    ],
)  # fmt: skip
def test_a_value_is_read_from_what_people_write(key: str, raw: Any, value: Any) -> None:
    assert read(SETTINGS[key], raw) == value
    assert type(read(SETTINGS[key], raw)) is type(value)


@pytest.mark.parametrize(
    ("key", "raw"),
    [
        ("drain_s", "10 parsecs"), ("drain_s", "-1"), ("drain_s", -1), ("drain_s", "nan"), ("drain_s", float("nan")),
        ("drain_s", float("inf")), ("drain_s", True), ("drain_s", None), ("drain_s", "10MiB"), ("drain_s", [1]),
        ("drain_s", "9" * 400), ("limits.body_bytes", "5m"), ("limits.body_bytes", 0), ("limits.body_bytes", 10**400),
        ("workers.max", "many"), ("workers.max", 0), ("workers.max", 1.5), ("workers.max", "8s"), ("workers.max", {}),
        ("http.port", 65_536), ("http.allow_remote", "perhaps"), ("http.allow_remote", 1), ("http.host", 127),
        ("log.level", "loud"), ("workers.queues", "a"), ("workers.queues", [1]), ("workers.queues", [""]),
        ("retention.tasks.max_count", -1),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused(key: str, raw: Any) -> None:
    with pytest.raises(ValueError):
        read(SETTINGS[key], raw)


def test_the_error_names_the_line_the_key_the_value_and_what_is_allowed(yaml_file: Callable[[str], Path]) -> None:
    file = yaml_file("workers:\n  min: 1\n  max: lots\n")
    assert refused(file) == f"{file}, line 3: workers.max is 'lots'; it must be a whole number, 1 to 1000"
    assert refused(environ={**HOME, "AGENTD_HTTP_PORT": "http"}) == (
        "AGENTD_HTTP_PORT: http.port is 'http'; it must be a whole number, 0 to 65535"
    )
    assert refused(flags={"http.port": 70_000}).startswith("--port: http.port is 70000")


def test_an_unknown_key_is_refused_and_the_near_one_suggested(yaml_file: Callable[[str], Path]) -> None:
    file = yaml_file("\nworkers:\n  mx: 3\nretention: {task: {max_count: 1}}\nfruit: 1\n")
    assert refused(file).split("\n") == [
        f"{file}, line 3: workers.mx is no setting; did you mean workers.max?",
        f"{file}, line 4: retention.task is no setting; did you mean retention.tasks?",
        f"{file}, line 5: fruit is no setting; agentd.example.yaml lists them all",
    ]


def test_an_unknown_variable_is_refused_and_the_near_one_suggested() -> None:
    message = "environment: AGENTD_WORKER_MAX is no setting; did you mean AGENTD_WORKERS_MAX?"
    assert refused(environ={**HOME, "AGENTD_WORKER_MAX": "8"}) == message


def test_variables_of_clients_tasks_and_the_viewer_set_nothing() -> None:
    names = [*NOT_SETTINGS - {"AGENTD_CONFIG"}, "AGENTD_WEB_PORT", "AGENTDX"]
    assert load(environ={**HOME, **dict.fromkeys(names, "x")}) == load(environ=HOME)


def test_lists_in_the_environment_are_separated_by_commas() -> None:
    assert load(environ={**HOME, "AGENTD_WORKERS_QUEUES": "build, test,"}).workers.queues == ("build", "test")


def test_every_error_is_told_at_once(yaml_file: Callable[[str], Path]) -> None:
    file = yaml_file("workers: {max: 0, min: -1}\nlog: {level: loud}\n")
    with pytest.raises(ConfigInvalid) as caught:
        load(file=file, environ=HOME)
    assert [error.field for error in caught.value.errors] == ["workers.max", "workers.min", "log.level"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("workers: {max: 1}\nworkers: {min: 1}", "line 2: workers is set twice"),
        ("workers: {max: 1, max: 2}", "line 1: workers.max is set twice"),
        ("workers: 3", "line 1: workers must hold keys and values"),
        ("- a\n- b", "line 1: the file must hold keys and values"),
        ("workers: {max: [", "is not YAML"),
        ("a: \x00", "is not YAML"),
        ("workers: {max: !!python/object:os.system x}", "line 1: workers.max"),
        ("workers: {max: !!timestamp x}", "line 1: workers.max"),
        ("drain_s: &a [*a]", "line 1: drain_s: found unconstructable recursive node"),
        ("? [a, b]\n: 1", "line 1: the name of a setting must be a text"),
        ("a: " + "[" * 5000, "is not YAML"),
        ('data_dir: "a\\0b"', "line 1: data_dir is"),
        ("#" * (1 << 20) + "#", "is larger than 1 MiB"),
    ],
)
def test_a_file_that_is_not_settings_is_refused(text: str, says: str, yaml_file: Callable[[str], Path]) -> None:
    assert says in refused(yaml_file(text))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "absent.yaml") == f"{tmp_path}/absent.yaml: cannot be read: No such file or directory"
    assert "Is a directory" in refused(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"data_dir: \xff")
    assert "is not YAML" in refused(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"workers.min": 5, "workers.max": 4}, "workers.min is 5, more than workers.max (4)"),
        ({"workers.queues": []}, "workers.queues is empty"),
        ({"limits.live_tasks": 5, "limits.live_tasks_per_session": 6}, "is more than limits.live_tasks (5)"),
        ({"data_dir": ""}, "data_dir is empty"),
        ({"http.host": "0.0.0.0"}, "set http.allow_remote: true to mean it"),
        ({"http.host": ""}, "set http.allow_remote: true to mean it"),
        ({"http.allowed_hosts": ["https://box"]}, "holds a URL"),
        ({"http.socket": "/" + "s" * 107}, "a path of 1 to 107 bytes"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(flags: dict[str, Any], says: str) -> None:
    assert says in refused(flags=flags)


def test_remote_hosts_are_allowed_when_that_is_said() -> None:
    assert load(environ=HOME, flags={"http.host": "0.0.0.0", "http.allow_remote": True}).http.host == "0.0.0.0"
    assert [h for h in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "::", "10.0.0.1", "box") if is_loopback(h)] == [
        "127.0.0.1", "127.9.9.9", "::1", "localhost",
    ]  # fmt: skip


def test_a_default_does_not_stand_against_what_was_asked_for() -> None:
    assert load(environ=HOME, flags={"workers.max": 1}).workers.min == 1
    assert load(environ=HOME, flags={"limits.live_tasks": 10}).limits.live_tasks_per_session == 10


def test_the_example_file_documents_every_setting_with_its_default() -> None:
    def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
        if not isinstance(tree, dict) or not tree:
            return {prefix[:-1]: tree}
        return {key: value for name, part in tree.items() for key, value in flat(part, f"{prefix}{name}.").items()}

    documented = flat(yaml.safe_load(EXAMPLE.read_text()))
    assert list(documented) == list(SETTINGS)
    assert {key: read(SETTINGS[key], raw) for key, raw in documented.items()} == {
        key: setting.default for key, setting in SETTINGS.items()
    }
    assert load(file=EXAMPLE, environ=HOME) == Settings()


def test_agents_are_described_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "agentd.yaml"
    file.write_text('agents:\n  aider: [aider, --message, "{prompt}"]\n')
    assert load(file=file, environ=HOME).agents == {"aider": ("aider", "--message", "{prompt}")}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("agents: {aider: aider}", "names with a list of texts each"),
        ("agents: [aider]", "names with a list of texts each"),
        ("agents: {aider: []}", "without a program"),
        ("agents: {'An Agent': [aider]}", "names are small letters"),
    ],
)
def test_an_agent_that_is_described_wrongly_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "agentd.yaml"
    file.write_text(text)
    with pytest.raises(ConfigInvalid, match=says):
        load(file=file, environ=HOME)


def test_no_two_settings_share_a_variable() -> None:
    variables = [setting.variable for setting in SETTINGS.values()]
    assert len(set(variables)) == len(variables)
    assert not set(variables) & NOT_SETTINGS


def test_every_default_is_a_value_that_may_be_given() -> None:
    for setting in SETTINGS.values():
        raw = list(setting.default) if isinstance(setting.default, tuple) else setting.default
        assert read(setting, raw) == setting.default, setting.key
