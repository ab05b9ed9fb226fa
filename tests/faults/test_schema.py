"""The short form of the layer `schema`."""

from __future__ import annotations

from pathlib import Path

from faultlib import schema


def test_every_operation_answers_right_and_wrong_requests_as_its_document_says(tmp_path: Path) -> None:
    report = schema.run(tmp_path, quick=True)
    assert not report.wrong
