"""What a file comes to when nothing is wrong with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from agentd.errors import FieldError, Invalid
from agentd.model.task import CauseCode
from agentd.workflows.matrix import MatrixError, expanded, tag
from agentd.workflows.planning import next_steps
from agentd.workflows.reading import accepted_inputs, read
from agentd.workflows.source import scalar_value
from tests.workflows.known import KINDS, steps, workflow

PAGE = (Path(__file__).parents[2] / "docs" / "workflows.md").read_text()
EXAMPLES = re.findall(r"^```yaml workflow\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_of_the_page_are_workflows(text: str) -> None:
    found = read(text, KINDS)
    given = {name: "x" for name, each in found.inputs.items() if each.required}
    for start in next_steps(found, accepted_inputs(found, given), {}).starts:
        KINDS[start.task.kind].check(start.task.spec)


def test_the_page_names_every_key_of_a_step_and_every_function() -> None:
    from agentd.workflows.expressions import FUNCTIONS
    from agentd.workflows.steps import ACTIONS, KEYS

    assert [key for key in [*KEYS, *ACTIONS, "spec"] if f"`{key}`" not in PAGE] == []
    assert [name for name in FUNCTIONS if f"`{name}(" not in PAGE] == []


PLAIN: dict[str, Any] = {
    "yes": "yes",
    "on": "on",
    "NO": "NO",
    "true": True,
    "False": False,
    "~": None,
    "": None,
    "3": 3,
    "-7": -7,
    "0": 0,
    "3.11": 3.11,
    "3.10": "3.10",
    "1.0": "1.0",
    "012": "012",
    "0o14": "0o14",
    "0x1f": "0x1f",
    "1_000": "1_000",
    "1e3": "1e3",
    "+1": "+1",
    ".5": ".5",
    ".inf": ".inf",
    "12:30": "12:30",
    "2001-01-01": "2001-01-01",
    "9999999999999999999999": "9999999999999999999999",
    "-0": "-0",
    "0.1000000000000000055": "0.1000000000000000055",
}


@pytest.mark.parametrize("text", PLAIN)
def test_scalars_are_what_people_mean_by_them(text: str) -> None:
    assert scalar_value(text) == PLAIN[text]
    assert type(scalar_value(text)) is type(PLAIN[text])
    found = workflow(f"steps: [{{id: a, kind: docker, spec: {{image: {text} }}}}]").steps["a"].spec["image"]
    assert found == PLAIN[text]
    quoted = workflow(f"steps: [{{id: a, kind: docker, spec: {{image: '{text}' }}}}]").steps["a"].spec["image"]
    assert quoted == text


def test_a_step_has_what_was_written() -> None:
    found = workflow("""
name: all
description: of it
env: {LEVEL: 012, ON: yes}
steps:
  - {id: a, run: 5, cwd: sub, timeout: 2m, retry: 3, continue_on_error: true, outputs: [x, y], name: First}
  - id: b
    needs: a
    agent: claude
    prompt: Look at ${{ steps.a.outputs.x }}
    max_turns: 3
    retry: {max: 2, on: [timeout], backoff_s: 0}
    timeout: 1.5
  - {id: c, docker: {operation: logs, id: x}}
  - {id: d, kind: shell, spec: {argv: [ls, "-l"], env: {LEVEL: own}}, env: {MORE: "${{ env.LEVEL }}"}}
""")
    a, b, c, d = found.steps.values()
    assert (found.name, found.description, found.order) == ("all", "of it", ("a", "c", "d", "b"))
    assert (a.kind, a.spec, a.timeout_s, a.continue_on_error) == ("shell", {"command": "5", "cwd": "sub"}, 120, True)
    assert (a.outputs, a.retry and a.retry.max, a.line) == (("x", "y"), 3, 6)
    assert (b.kind, b.needs, b.timeout_s, b.spec["agent"], b.spec["max_turns"]) == ("agent", ("a",), 1.5, "claude", 3)
    assert b.retry is not None
    assert (b.retry.max, b.retry.on, b.retry.backoff_s) == (2, (CauseCode.TIMEOUT,), 0)
    starts = {start.step_id: start.task for start in next_steps(found, {}, {}).starts}
    assert list(starts) == ["a", "c", "d"]
    assert starts["a"].spec["env"] == {"LEVEL": "012", "ON": "yes"}
    assert starts["a"].name == "First"
    assert (starts["a"].trigger.type, starts["a"].trigger.source) == ("workflow", "all")
    assert starts["c"].spec == {"operation": "logs", "id": "x"}  # an operation without an environment is given none
    assert starts["d"].spec["env"] == {"LEVEL": "own", "ON": "yes", "MORE": "012"}
    assert c.takes_env is False
    assert d.takes_env is True


def test_the_variables_of_a_step_are_over_those_of_the_workflow() -> None:
    found = workflow("""
env: {A: all, B: all}
steps: [{id: a, env: {A: "${{ env.A }}+own", C: own}, run: "echo ${{ env.A }} ${{ env.B }} ${{ env.C }}"}]
""")
    [start] = next_steps(found, {}, {}).starts
    assert start.task.spec == {"command": "echo all+own all own", "env": {"A": "all+own", "B": "all", "C": "own"}}


def test_an_agent_may_be_given_as_its_whole_spec() -> None:
    spec = workflow("steps: [{id: a, agent: {agent: claude, prompt: Hello}}]").steps["a"].spec
    assert spec == {"agent": "claude", "prompt": "Hello"}


def test_aliases_stand_for_what_they_name() -> None:
    found = workflow("env: &e {A: b}\nsteps: [{id: a, run: ls, env: *e}]")
    assert found.steps["a"].env == {"A": "b"}


def test_inputs_take_the_type_of_their_default() -> None:
    found = workflow("""
inputs: {n: {default: 3}, flag: {default: false}, text: {default: six}, free: {required: true}, bare: }
steps: [{id: a, run: ls}]
""")
    assert accepted_inputs(found, {"free": 1}) == {"n": 3, "flag": False, "text": "six", "free": 1, "bare": ""}
    given = {"n": "4", "flag": "true", "text": 12, "free": "1", "bare": "x"}
    assert accepted_inputs(found, given) == {"n": 4, "flag": True, "text": "12", "free": "1", "bare": "x"}
    with pytest.raises(Invalid) as caught:
        accepted_inputs(found, {"n": "many", "flag": "yes", "text": [], "nope": 1, "bare": "\ud800"})
    assert [each.field.removeprefix("inputs.") for each in caught.value.errors] == sorted(
        ["n", "flag", "text", "nope", "free", "bare"]
    )
    assert FieldError("inputs.free", "must be given") in caught.value.errors


def test_a_matrix_is_expanded_in_the_order_of_the_file() -> None:
    found = steps("id: t, matrix: {os: [a, b], python: [3.9, 3.10], exclude: [{os: b, python: 3.9}]}")
    assert list(found.instances) == ["t[os=a,python=3.9]", "t[os=a,python=3.10]", "t[os=b,python=3.10]"]


def test_an_include_adds_to_what_it_does_not_contradict_else_it_is_one_more() -> None:
    axes: dict[str, Any] = {"fruit": ["apple", "pear"], "animal": ["cat", "dog"]}
    include: list[dict[str, Any]] = [
        {"color": "green"},
        {"color": "pink", "animal": "cat"},
        {"fruit": "apple", "shape": "circle"},
        {"fruit": "banana"},
        {"fruit": "banana", "animal": "cat"},
    ]
    assert [tag(each) for each in expanded(axes, include, [])] == [
        "fruit=apple,animal=cat,color=pink,shape=circle",
        "fruit=apple,animal=dog,color=green,shape=circle",
        "fruit=pear,animal=cat,color=pink",
        "fruit=pear,animal=dog,color=green",
        "fruit=banana",
        "fruit=banana,animal=cat",
    ]


def test_a_value_that_could_be_taken_for_two_is_quoted() -> None:
    assert tag({"a": "1,b=2"}) == 'a="1,b=2"'
    assert tag({"a": ""}) == 'a=""'
    with pytest.raises(MatrixError, match="twice"):
        expanded({}, [{"a": 1}, {"a": "1"}], [])


def test_a_name_may_say_which_combination_it_is() -> None:
    found = steps(
        "id: a, name: Test, matrix: {x: [1]}", "id: b, name: 'Test ${{ matrix.x }}', matrix: {x: [1]}", "id: c"
    )
    assert [start.task.name for start in next_steps(found, {}, {}).starts] == ["Test[x=1]", "Test 1", "c"]
