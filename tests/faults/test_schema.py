"""The short form of the layer `schema`."""

from __future__ import annotations

from pathlib import Path

import pytest

from faultlib import schema


@pytest.mark.timeout(1200)  # a minute and more of one core, of which a busy machine gives a part
def test_every_operation_answers_right_and_wrong_requests_as_its_document_says(tmp_path: Path) -> None:
    report = schema.run(tmp_path, quick=True)
    assert not report.wrong
