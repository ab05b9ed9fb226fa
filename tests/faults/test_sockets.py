"""The short form of the layer `sockets`."""

from __future__ import annotations

from pathlib import Path

from faultlib import sockets


def test_whatever_comes_on_a_socket_the_next_good_request_is_answered(tmp_path: Path) -> None:
    report = sockets.run(tmp_path, quick=True)
    assert not report.wrong
