"""Whether the names that expressions use are there, and known by then."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from agentd.workflows.expressions import STATUS_FUNCTIONS, Call, Reference, parts_of
from agentd.workflows.parts import Parts, Used


class Scope(NamedTuple):
    """What the expressions of one place may name."""

    inputs: Collection[str]
    env: Collection[str] = ()
    matrix: Collection[str] = ()
    steps: Mapping[str, Collection[str]] = {}  #: outputs of every step
    needed: Collection[str] | None = ()  #: steps that have ended by then; None where that cannot be told
    status: bool = False  #: whether success() and its like have a meaning


def check(parts: Parts, used: Used, scope: Scope) -> None:
    """Adds a problem for each name of a template that is not in scope."""
    for n, expression in enumerate(used.template.expressions):
        for each in parts_of(expression):
            if isinstance(each, Reference) and (message := _missing(parts, each, scope)):
                parts.problems.add(parts.place(used.node, n, each.at), used.path, message)
            if isinstance(each, Call) and each.name in STATUS_FUNCTIONS and not scope.status:
                message = f"{each.name}() has a meaning only in the if of a step"
                parts.problems.add(parts.place(used.node, n, 0), used.path, message)


def _missing(parts: Parts, found: Reference, scope: Scope) -> str | None:
    match found.path:
        case ("inputs", name) if name not in scope.inputs:
            return f"there is no input {name}{parts.problems.near(name, scope.inputs, '; declare it under inputs')}"
        case ("env", name) if name not in scope.env:
            guess = parts.problems.near(name, scope.env, "; declare it under env (what tasks inherit is for run alone)")
            return f"there is no variable {name} here{guess}"
        case ("matrix", name) if name not in scope.matrix:
            otherwise = "; declare it under the matrix of this step" if scope.matrix else "; this step has no matrix"
            return f"there is no matrix key {name}{parts.problems.near(name, scope.matrix, otherwise)}"
        case ("steps", step, *rest):
            return _step(parts, step, rest, scope)
    return None


def _step(parts: Parts, step: str, rest: list[str], scope: Scope) -> str | None:
    if scope.needed is not None and not scope.steps:
        return "steps are known only within steps"
    if step not in scope.steps:
        return f"there is no step {step}{parts.problems.near(step, scope.steps, '; name one by its id')}"
    if scope.needed is not None and step not in scope.needed:
        return f"step {step} may not have ended by then; add it to needs"
    if rest[0] == "outputs" and rest[1] not in scope.steps[step]:
        guess = parts.problems.near(rest[1], scope.steps[step], f"; add it to the outputs of {step}")
        return f"step {step} declares no output {rest[1]}{guess}"
    return None
