"""The bench works: rows come out of its quick forms, and its curves and pictures say what was measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchlib.daemon import Daemon
from benchlib.drawing import Curve, Panel, bars, curve
from benchlib.figures import table
from benchlib.growing import Theory, exponent, grown, line_through
from benchlib.peers.rounds import Amount, beside_peers
from benchlib.processes import without_settings
from benchlib.spans import WAY, spans

ROOT = Path(__file__).parents[1]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("parts", "rows"),
    [
        (("transitions", "held"), 3),
        (("streams", "written"), 5),
        (("queued", "depth"), 4),
        (("at-once", "logs"), 9),
        (("tasks", "records"), 5),
    ],
)
def test_rows_come_out_of_the_quick_forms(parts: tuple[str, ...], rows: int, tmp_path: Path) -> None:
    environ = without_settings() | {"PYTHONPATH": str(ROOT / "scripts")}
    argv = [sys.executable, "-m", "benchlib", *parts, "--quick", "--dir", str(tmp_path)]
    ran = subprocess.run(argv, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    found = [line for line in ran.stdout.splitlines() if line.endswith(("| yes |", "| **no** |"))]
    assert len(found) == rows, ran.stdout
    assert not list(tmp_path.glob("bench-*")), "what was measured on is gone afterwards"


def test_a_daemon_that_does_not_start_is_told_of_in_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "format.json").write_text('{"format": 99}')
    with pytest.raises(RuntimeError, match=r"the daemon ended with 2: .*format"):
        Daemon(tmp_path / "data").start()


def test_the_spans_of_a_task_follow_each_other_from_its_post_to_its_end(tmp_path: Path) -> None:
    sheet = spans(tmp_path, 20, 0.1, 10)
    places = tuple(f"| {span.where} |" for span in WAY)
    lengths = [int(row.split("|")[3]) for row in sheet.text.splitlines() if row.startswith(places)]
    assert len(lengths) == len(WAY)
    assert all(length >= 0 for length in lengths)
    assert len(ElementTree.fromstring(sheet.pictures["spans.svg"]).findall(f"{SVG}rect")) == len(WAY)


def test_agentd_among_its_peers_is_measured_and_survives_its_crash(tmp_path: Path) -> None:
    sheet = beside_peers(tmp_path, Amount(10, 3, 1, 0.1, 60, 2), ("agentd",))
    assert [row.met for row in sheet.rows] == [True], table(sheet.rows)
    assert "| **agentd** | at once: failed, interrupted | 5 of 5 ran | ended | 1 |" in sheet.text
    assert ElementTree.fromstring(sheet.pictures["peers.svg"]).findall(f"{SVG}rect[@class='ours']")


def test_agentd_among_its_peers_that_cannot_be_measured_fails_the_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))  # no Python that is started from here comes up
    sheet = beside_peers(tmp_path, Amount(10, 3, 1, 0.1, 3, 2), ("agentd", "agentd, 100 a POST"))
    assert [(row.met, row.failed, row.figure) for row in sheet.rows] == [(None, True, "failed: it ended")] * 2


def test_a_peer_that_is_not_installed_is_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    sheet = beside_peers(tmp_path, Amount(10, 3, 1, 0.1, 3, 2), ("nq",))
    assert "| nq | not here: apt install nq |" in sheet.text
    assert sheet.rows == []


def test_a_line_is_laid_through_points_whatever_one_of_them_is() -> None:
    assert line_through([(0, 1), (1, 3), (2, 5), (3, 7), (4, 9), (5, 700)]) == (1, 2)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_cost_is_found_above_what_there_is_without(power: float) -> None:
    assert exponent([(x, 7 + 3 * x**power) for x in (0, 10, 100, 1000)]) == pytest.approx(power)


@pytest.mark.parametrize(
    ("flat", "cost", "met"),
    [
        (True, lambda x: 5.0, True),
        (True, lambda x: 5.0 + x / 100, False),
        (False, lambda x: 5.0 + 2 * x, True),
        (False, lambda x: 5.0 + x * x, False),
    ],
)
def test_a_curve_fails_where_it_is_not_what_theory_says(flat: bool, cost: object, met: bool) -> None:
    assert callable(cost)
    sheet = grown("x", "a cost", "tasks", "ms", [(x, cost(x)) for x in (0, 250, 500, 1000)], Theory(flat, "Why."))
    assert [row.met for row in sheet.rows] == [met]
    assert "![a cost, by tasks](pictures/growth-x.svg)\nWhy." in sheet.text


def test_pictures_are_svg_with_every_figure_in_words() -> None:
    drawn = bars("Bars", ["ours", "<theirs>"], [Panel("a & b", [1.5, None], " ms")], "ours")
    texts = [each.text for each in ElementTree.fromstring(drawn).iter(f"{SVG}text")]
    assert {"ours", "<theirs>", "a & b", "1.5 ms", "?"} <= set(texts)
    line = curve("cost", "tasks", "ms", Curve([(0, 0), (1000, 2.5)], 0, 0.0025))
    described = ElementTree.fromstring(line).findtext(f"{SVG}desc")
    assert described == "cost, ms by tasks: 0: 0; 1,000: 2.5"
