"""What holds whatever a file says and however its steps end."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agentd.errors import WorkflowInvalid
from agentd.workflows.definition import Workflow
from agentd.workflows.evaluation import MAX_TEXT, Before, Names, evaluate, shown, truth
from agentd.workflows.expressions import FUNCTIONS, parse
from agentd.workflows.planning import next_steps
from agentd.workflows.problems import MOST
from agentd.workflows.reading import accepted_inputs, read
from agentd.workflows.runs import resumed, state_of
from agentd.workflows.standing import InstanceState, RunState, Standing
from agentd.workflows.tokens import ExpressionError
from tests.workflows.known import KINDS, workflow

VALID = """\
name: all  # of it
inputs: {package: {default: six}, n: {default: 3}}
env: &env {A: "${{ inputs.package }}"}
steps:
  - {id: a, run: 'echo ${{ inputs.n }}', outputs: [x], retry: {max: 1}, timeout: 2m}
  - id: b
    needs: [a]
    if: steps.a.outputs.x != ''
    matrix: {p: [3.9, 3.10], q: [1, 2], exclude: [{p: 3.9, q: 1}], include: [{p: 3.9, r: yes}]}
    run: |
      echo ${{ matrix.p }} ${{ format('{0}', matrix.r) }}
    env: *env
  - {id: c, needs: [b], if: always(), docker: {operation: run, image: busybox}, continue_on_error: true}
"""


def read_or_refused(raw: bytes | str) -> Workflow | None:
    """Reads it; a refusal is checked for what it promises."""
    try:
        return read(raw, KINDS)
    except WorkflowInvalid as error:
        assert 0 < len(error.problems) <= MOST
        text = raw if isinstance(raw, str) else raw.decode(errors="replace")
        lines = text.count("\n") + text.count("\r") + 1
        for problem in error.problems:
            assert 1 <= problem.line <= lines
            assert problem.column >= 1
            assert problem.message
        assert list(error.problems) == sorted(error.problems)
        return None


@given(st.binary(max_size=200) | st.text(max_size=200) | st.text("{}[]:,-&*!|>'\"#?%@` \n\tab$1", max_size=80))
@settings(max_examples=300)
def test_whatever_the_bytes_are_reading_gives_a_workflow_or_the_one_error(raw: bytes | str) -> None:
    read_or_refused(raw)


@given(st.data())
@settings(max_examples=200)
def test_a_file_with_parts_cut_out_doubled_and_put_in_is_read_or_refused(data: st.DataObject) -> None:
    text = VALID
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(at, min(at + 30, len(text))))
        put = data.draw(
            st.sampled_from(
                ["", "${{", "}}", "[", "{", "&x ", "*x", "'", '"\\ud800"', "\0", ": ", "- ", text[at:end] * 2]
            )
        )
        text = text[:at] + put + text[end:]
    read_or_refused(text)


TEXT_ATOMS = ["a", "b", "c", "x", "ls", "always()", "${{", "2m", "shell", "run", "include", "exclude"]
ATOMS: st.SearchStrategy[Any] = (
    st.sampled_from([*TEXT_ATOMS, "", "${{ inputs.x }}", "${{ steps.a.outputs.x }}"])
    | st.sampled_from([None, True, 0, 1, -1, 3.5, 10**30])
)  # fmt: skip
STEP_KEYS = ["id", "name", "needs", "if", "matrix", "timeout", "retry", "continue_on_error", "outputs", "env", "x"]
KEYS = [*STEP_KEYS, "inputs", "steps", "run", "agent", "docker", "kind", "spec"]
TREES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*KEYS, "include", "max"]), inner, max_size=5)
    ),
    max_leaves=20,
)
STEPS = st.dictionaries(st.sampled_from(KEYS), TREES, max_size=6).map(lambda found: {"id": "a", "run": "ls", **found})
FILES = st.fixed_dictionaries(
    {"steps": st.lists(STEPS, max_size=4) | TREES}, optional={"inputs": TREES, "env": TREES, "name": TREES}
)


@given(FILES)
@settings(max_examples=300)
def test_whatever_stands_where_a_file_can_have_something_it_is_read_or_refused(tree: Any) -> None:
    found = read_or_refused(yaml.safe_dump(tree))
    if found is not None:
        next_steps(found, accepted_inputs(found, dict.fromkeys(found.inputs, "1")), {})


WORDS = [
    "inputs.x",
    "env.E",
    "matrix.m",
    "steps.s.outputs.o",
    "steps.s.state",
    "'text'",
    "''",
    "1",
    "-2.5",
    "true",
    "null",
]
EXPRESSIONS = st.recursive(
    st.sampled_from(WORDS),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "&&", "||"]), inner).map(
            lambda found: f"({' '.join(found)})"
        ),
        inner.map(lambda found: f"!{found}"),
        st.tuples(st.sampled_from(sorted(FUNCTIONS)), st.lists(inner, min_size=3, max_size=3)).map(
            lambda found: f"{found[0]}({', '.join(found[1][: FUNCTIONS[found[0]][0]])})"
        ),
        st.tuples(inner, inner).map(lambda found: f"fromJSON({found[0]})[{found[1]}].part"),
        st.tuples(inner, inner).map(lambda found: f"format('{{0}}{{0}}{{1}}', {found[0]}, {found[1]})"),
    ),
    max_leaves=12,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TEXTS = st.text(max_size=20) | JSON.map(lambda value: yaml.safe_dump(value, default_flow_style=True))
SCALARS = TEXTS | st.booleans() | st.none() | st.integers() | st.floats()


@given(EXPRESSIONS, SCALARS, TEXTS, SCALARS, TEXTS)
@settings(max_examples=300)
def test_every_expression_has_a_value_whatever_the_names_stand_for(
    text: str, given: Any, variable: str, combination: Any, output: str
) -> None:
    names = Names(
        inputs={"x": given},
        env={"E": variable},
        matrix={"m": combination},
        outputs={"s": {"o": output}},
        states={"s": "failed"},
        before=Before(success=False, failure=True),
    )
    value = evaluate(parse(text), names)
    assert len(shown(value)) <= MAX_TEXT + 1
    assert truth(value) in (True, False)
    assert repr(evaluate(parse(text), names)) == repr(value)


@given(st.text(max_size=60) | st.text("()[]!&|=<>'.,ab1 -", max_size=40))
@settings(max_examples=300)
def test_whatever_a_text_is_it_is_an_expression_or_says_where_not(text: str) -> None:
    try:
        found = parse(text)
    except ExpressionError as error:
        assert 0 <= error.at <= len(text)
    else:
        evaluate(found, Names())


CONDITIONS = [
    "",
    "always()",
    "failure()",
    "cancelled()",
    "success()",
    "success() || failure()",
    "false",
    "matrix.m != 1",
]


@st.composite
def workflows(draw: st.DrawFn) -> Workflow:
    """Any shape of steps, conditions and matrices; a step needs some of those that stand before or after it."""
    count = draw(st.integers(1, 7))
    places = draw(st.permutations(range(count)))
    lines = []
    for n in range(count):
        before = [m for m in range(count) if places[m] < places[n]]
        needs = draw(st.lists(st.sampled_from(before), unique=True)) if before else []
        line = f"  - {{id: s{n}, run: ls, needs: {[f's{need}' for need in needs]}, outputs: [o]"
        condition = draw(st.sampled_from(CONDITIONS))
        if "matrix" in condition or draw(st.booleans()):
            line += ", matrix: {m: [1, 2]}"
        if condition:
            line += f', if: "{condition}"'
        if draw(st.booleans()):
            line += ", continue_on_error: true"
        lines.append(line + "}\n")
    return workflow("steps:\n" + "".join(lines))


ENDS = [Standing.COMPLETED, Standing.FAILED, Standing.INTERRUPTED, Standing.CANCELLED]


class Run:
    """A run that is driven by its plans alone, with ends as they are drawn."""

    def __init__(self, found: Workflow, data: st.DataObject) -> None:
        self.workflow = found
        self.data = data
        self.states: dict[str, InstanceState] = {}
        self.cancelled = False

    def to_the_end(self) -> None:
        """Every instance ends in a finite number of rounds, none before what it needs."""
        for _ in range(2 * len(self.workflow.instances) + 2):
            plan = next_steps(self.workflow, {}, self.states, cancelled=self.cancelled)
            assert plan == next_steps(self.workflow, {}, dict(self.states), cancelled=self.cancelled)
            skipped = {skip.instance_id for skip in plan.skips}
            for start in plan.starts:
                assert start.instance_id not in self.states
                for need in self.workflow.steps[start.step_id].needs:
                    for each in self.workflow.steps[need].instances:
                        standing = self.standing(each.instance_id)
                        assert each.instance_id in skipped or standing not in (None, Standing.LIVE)
                self.states[start.instance_id] = InstanceState(standing=Standing.LIVE)
            again = next_steps(self.workflow, {}, self.states, cancelled=self.cancelled)
            assert not again.starts  # what was started is not started again, and nothing follows from that alone
            assert {skip.instance_id for skip in again.skips} == skipped
            live = [each for each, state in self.states.items() if state.standing is Standing.LIVE]
            if not live:
                assert skipped | self.states.keys() == self.workflow.instances.keys()
                return
            assert state_of(self.workflow, {}, self.states, cancelled=self.cancelled).state is RunState.RUNNING
            self.cancelled = self.cancelled or self.data.draw(st.integers(0, 9)) == 0
            ending = self.data.draw(st.sampled_from(live))
            self.states[ending] = InstanceState(standing=self.data.draw(st.sampled_from(ENDS)), outputs={"o": ending})
        pytest.fail("the run has no end")

    def standing(self, instance_id: str) -> Standing | None:
        """Where the instance stands, if it was started."""
        state = self.states.get(instance_id)
        return state.standing if state else None


@given(workflows(), st.data())
@settings(max_examples=150)
def test_every_run_ends_and_can_be_resumed_until_it_has_completed(found: Workflow, data: st.DataObject) -> None:
    run = Run(found, data)
    run.to_the_end()
    ended = state_of(found, {}, run.states, cancelled=run.cancelled)
    again = resumed(found, {}, run.states, cancelled=run.cancelled)
    assert ended.state is not RunState.RUNNING
    assert (ended.state is RunState.COMPLETED) == (not ended.where)
    if ended.state is RunState.COMPLETED:
        assert again == () or run.cancelled
        return
    assert set(ended.where) <= set(again)
    kept = {each: state for each, state in run.states.items() if each not in again}
    assert all(state.standing in (Standing.COMPLETED, Standing.FAILED) for state in kept.values())
    run.states, run.cancelled, run.data = dict(kept), False, data
    run.to_the_end()
    assert kept.items() <= run.states.items()
