"""The table of the layers of faults."""

from __future__ import annotations

from faultlib.report import Report, row, rows_in, table


def test_a_layer_that_runs_again_takes_its_row_and_leaves_those_of_others() -> None:
    standing = table(row(Report(layer, "3 things"), "then") for layer in ("kills", "bits"))
    again = {"bits": row(Report("bits", wrong=["one"]), "now"), "power": row(Report("power", skipped="no root"), "now")}
    assert (rows_in(f"2 cores, load 1.\n\n{standing}") | again) == {
        "kills": "| kills | 3 things | 0 | then |",
        "bits": "| bits |  | 1 | now |",
        "power": "| power | not here: no root | ? | now |",
    }
