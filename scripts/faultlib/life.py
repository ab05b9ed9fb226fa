"""Any life of the service: verbs, crashes, power cuts, troubles of the disk and of the clock, against a model."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from faultlib.report import Report
from tests.service.whole_lives import WholeLife

#: Seeds of the long form, and lives from each.
SEEDS = range(1, 11)
LIVES = 150
STEPS = 60


def run(directory: Path, quick: bool) -> Report:
    """Live through lives from each seed. `directory` stays empty: each life has one of its own."""
    WholeLife.tried.clear()
    wrong = []
    for number in SEEDS[:1] if quick else SEEDS:
        try:
            _live(number, 30 if quick else LIVES)
        except Exception as error:
            wrong.append(f"seed {number}: {error!r}; {' '.join(getattr(error, '__notes__', ()))}")
    tried = WholeLife.tried
    counted = f"{tried['lives']:,} lives of {tried['verbs']:,} answered verbs, {tried['attempts']:,} attempts"
    ends = f"{tried['power cuts']:,} power cuts, {tried['kills']:,} kills and {tried['clean stops']:,} clean stops"
    inside = f"{tried['crashes in a recovery']:,} of the crashes inside a recovery"
    also = f"{tried['troubles of the disk']:,} troubles of the disk, {tried['jumps of the clock']:,} of the clock"
    return Report("life", f"{counted}; {ends} ({inside}); {also}", wrong)


def _live(number: int, lives: int) -> None:
    machine = seed(number)(type(f"ServiceLife{number}", (WholeLife,), {}))
    effort = settings(
        max_examples=lives,
        stateful_step_count=STEPS,
        database=None,
        deadline=None,
        derandomize=False,
        phases=(Phase.generate,),  # the whole life is told when one is wrong; the tests make it small
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=effort)
