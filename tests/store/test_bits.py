"""Bits that flip in any file of a session and of the data directory: told, put right, or found; never served as so."""

from __future__ import annotations

import random

import pytest

from tests.store.bits import MAY_BECOME, Flips

SAMPLE = 150
FLIPS = Flips()


@pytest.mark.parametrize("kind", MAY_BECOME)
def test_a_flipped_bit_is_never_served_as_what_was_written(kind: str) -> None:
    path = FLIPS.files()[kind]
    bits = range(FLIPS.bits(path))
    for bit in random.Random(kind).sample(bits, min(SAMPLE, len(bits))):
        assert FLIPS.flip(path, bit) in MAY_BECOME[kind], f"bit {bit}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAY_BECOME)
def test_no_flipped_bit_is(kind: str) -> None:
    path = FLIPS.files()[kind]
    for bit in range(FLIPS.bits(path)):
        assert FLIPS.flip(path, bit) in MAY_BECOME[kind], f"bit {bit}"
