"""What an installed agentd has: every module, page and file for browsers; and that vendored files are what they say."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("agentd", "hosting", "webui")


def test_a_built_wheel_has_every_module_template_and_static_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    wanted = {str(path.relative_to(source)) for name in PACKAGES for path in (source / name).rglob("*.*")}
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps"]
    subprocess.run(
        [*command, "--no-build-isolation", "-w", str(tmp_path), str(source)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as built:
        packed = set(built.namelist())
        [entries] = [name for name in packed if name.endswith("entry_points.txt")]
        assert b"agentd-web = webui.main:main" in built.read(entries)
    assert wanted - packed == set()


@pytest.mark.parametrize("place", ["webui/static/vendor", "tests/webui/vendor"])
def test_vendored_files_are_those_that_were_published_with_their_licence(place: str) -> None:
    lines = (ROOT / place / "sha256sums.txt").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split() for line in lines)}
    there = {path.name for path in (ROOT / place).iterdir()} - {"sha256sums.txt"}
    assert listed.keys() == there
    assert any("LICENSE" in name for name in there)
    for name, digest in listed.items():
        assert hashlib.sha256((ROOT / place / name).read_bytes()).hexdigest() == digest, name
