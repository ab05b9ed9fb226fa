"""A matrix: every combination of its values, less `exclude`, and with `include`.

The order is that of the file: the last key varies fastest, then come the combinations that `include` adds. An entry of
`include` is put into every combination whose own values it does not contradict; when there is none, it is one more.
Values are compared as texts.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable

import msgspec

from agentd.workflows.definition import MAX_COMBINATIONS, ScalarValue
from agentd.workflows.evaluation import shown

Combination = dict[str, ScalarValue]

#: Combinations that are looked at before `exclude`.
MAX_PRODUCT = 10_000
#: Combinations that a message still counts: a file can have so many that Python refuses to write the number.
MAX_TOLD = 10**9


class MatrixError(Exception):
    """The matrix has no or too many combinations, or the same one twice."""


def expanded(
    axes: dict[str, list[ScalarValue]], include: list[Combination], exclude: list[Combination]
) -> list[Combination]:
    """The combinations, in their order.

    Raises:
        MatrixError: there are none, too many, or two alike.
    """
    product = math.prod(map(len, axes.values())) if axes else 0
    if product > MAX_PRODUCT:
        told = product if product <= MAX_TOLD else f"more than {MAX_TOLD}"
        raise MatrixError(f"the matrix has {told} combinations; at most {MAX_COMBINATIONS} run")
    own = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())] if axes else []
    own = [each for each in own if not any(_agrees(entry, each, entry) for entry in exclude)]
    found = [dict(each) for each in own]
    added: list[Combination] = []
    for entry in include:
        fitting = [n for n, each in enumerate(own) if _agrees(entry, each, axes.keys() & entry.keys())]
        for n in fitting:
            found[n].update({key: value for key, value in entry.items() if key not in axes})
        if not fitting:
            added.append(entry)
    found += added
    if not found:
        raise MatrixError("the matrix has no combination left; leave it out, or exclude less")
    if len(found) > MAX_COMBINATIONS:
        raise MatrixError(f"the matrix has {len(found)} combinations; at most {MAX_COMBINATIONS} run")
    tags = [tag(each) for each in found]
    if len(set(tags)) < len(tags):
        twice = next(each for n, each in enumerate(tags) if each in tags[:n])
        raise MatrixError(f"the combination {twice} is in the matrix twice; keep one")
    return found


_SIMPLE = re.compile(r"[A-Za-z0-9_.+:/@-]+")


def tag(combination: Combination) -> str:
    """`python=3.11,os=linux`; a value that could be taken for more than one is quoted."""
    texts = {key: shown(value) for key, value in combination.items()}
    return ",".join(
        f"{key}={text if _SIMPLE.fullmatch(text) else msgspec.json.encode(text).decode()}"
        for key, text in texts.items()
    )


def _agrees(one: Combination, other: Combination, keys: Iterable[str]) -> bool:
    return all(key in other and shown(one[key]) == shown(other[key]) for key in keys)
