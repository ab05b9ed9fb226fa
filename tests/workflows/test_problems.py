"""Everything that can be wrong with a file, each with its line, column, path and remedy."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from agentd.errors import FieldError, Invalid, WorkflowInvalid, by_code
from agentd.workflows.definition import MAX_STEPS
from agentd.workflows.reading import read
from tests.workflows.known import KINDS


class Case(NamedTuple):
    text: str  #: » stands before the place of the problem
    path: str
    message: str  #: a part of it


def refused(text: str | bytes) -> WorkflowInvalid:
    with pytest.raises(WorkflowInvalid) as caught:
        read(text, KINDS)
    return caught.value


def step(line: str) -> str:
    return "steps:\n  - {id: first, run: ls, outputs: [file]}\n  - " + line


CASES = {
    "not yaml": Case("steps: [a\nname»: b", "", "is not YAML"),
    "empty": Case("»", "", "empty"),
    "only a comment": Case("»# nothing", "", "empty"),
    "a list": Case("»- a", "", "a workflow must be keys and values, not a list"),
    "no steps": Case("»name: a", "", "add `steps:`"),
    "no step": Case("steps: »[]", "steps", "add one"),
    "steps no list": Case("steps: »{a: b}", "steps", "steps must be a list, not keys and values"),
    "a step no mapping": Case("steps: [»make]", "steps[0]", "a step must be keys and values, not a text"),
    "unknown key": Case("steps: [{id: a, run: ls}]\n»stepz: 1", "stepz", "did you mean steps?"),
    "unknown key of nothing like it": Case("steps: [{id: a, run: ls}]\n»on: push", "on", "there are name, description"),
    "unknown key of a step": Case(step("{id: a, run: ls, »need: first}"), "steps[1].need", "did you mean needs?"),
    "unknown field of a spec": Case(
        step("{id: a, kind: shell, spec: {»comand: ls}}"), "steps[1].spec.comand", "did you mean command?"
    ),
    "a spec the kind refuses": Case(
        step("{id: a, kind: shell, spec: {command: »''}}"), "steps[1].spec.command", "command: must not be empty"
    ),
    "a command the kind refuses": Case(step('{id: a, run: »"  "}'), "steps[1].run", "command: must not be empty"),
    "beside run": Case(step("{id: a, run: ls, tty: »often}"), "steps[1].tty", "tty: expected `bool`, got `str`"),
    "run of nothing": Case(step("{id: a, run: »~}"), "steps[1].run", "must be a text, not nothing"),
    "run of a list": Case(step("{id: a, run: »[ls]}"), "steps[1].run", "must be a text, not a list"),
    "two kinds": Case(step("{id: a, run: ls, »agent: claude}"), "steps[1].agent", "has run and agent"),
    "no kind": Case(step("»{id: a}"), "steps[1]", "this one has none"),
    "an unknown kind": Case(step("{id: a, kind: »shel}"), "steps[1].kind", "did you mean shell?"),
    "env of what has none": Case(
        step("{id: a, docker: {operation: stop, id: x}, »env: {A: b}}"), "steps[1].env", "takes no env"
    ),
    "no id": Case(step("»{run: ls}"), "steps[1]", "give it one"),
    "a bad id": Case(step("{id: »1st, run: ls}"), "steps[1].id", "does not begin with a digit"),
    "an id that is no text": Case(step("{id: »true, run: ls}"), "steps[1].id", "not true or false"),
    "an id too long": Case(step(f"{{id: »{'a' * 101}, run: ls}}"), "steps[1].id", "1 to 100 characters"),
    "the same id": Case(step("{id: »first, run: ls}"), "steps[1].id", "ids are given once"),
    "an unknown need": Case(step("{id: a, run: ls, needs: [»frist]}"), "steps[1].needs[0]", "did you mean first?"),
    "an unknown single need": Case(step("{id: a, run: ls, needs: »x}"), "steps[1].needs", "there is no step x"),
    "a need of itself": Case(step("{id: a, run: ls, needs: [»a]}"), "steps[1].needs[0]", "needs itself"),
    "a need twice": Case(step("{id: a, run: ls, needs: [first, »first]}"), "steps[1].needs[1]", "named twice"),
    "a circle": Case(
        step("{id: a, run: ls, needs: [first, »b]}\n  - {id: b, run: ls, needs: a}"), "steps[1].needs", "a -> b -> a"
    ),
    "a key twice": Case(step("{id: a, run: ls, »run: ls}"), "", "is here twice"),
    "a key of the file twice": Case("steps: [{id: a, run: ls}]\n»steps: []", "", "is here twice"),
    "a key that is a number": Case(step("{id: a, run: ls, »1: b}"), "", 'write "1"'),
    "a key that is a list": Case(step("{id: a, run: ls, ? »[b] : c}"), "", "a key must be a text"),
    "a merge key": Case("env: &a {b: c}\nsteps:\n  - {id: a, run: ls, »<<: *a}", "", "merge keys"),
    "a tag": Case(step("{id: a, run: »!!python/name:os.system ls}"), "", "the tag tag:yaml.org"),
    "a tag for a text": Case(step("{id: a, run: ls, if: »!cancelled()}"), "", "quote a text that begins with !"),
    "a second document": Case("steps: [{id: a, run: ls}]\n»---\nsteps: []", "", "a second document"),
    "no such anchor": Case(step("{id: a, run: »*b}"), "", ""),
    "an anchor in itself": Case("steps: &a [»*a]", "", "within what it stands for"),
    "too deep": Case("steps: " + "[" * 31 + "»[", "", "nested more than 32 deep"),
    "nul": Case(step('{id: a, run: »"a\\0b"}'), "steps[1].run", "NUL"),
    "if of a list": Case(step("{id: a, run: ls, if: »[a]}"), "steps[1].if", "must be an expression, not a list"),
    "if of a text": Case(step("{id: a, run: ls, if: »'${{ true }} or so'}"), "steps[1].if", "put all of it between"),
    "if of two": Case(step("{id: a, run: ls, if: »'${{ true }}${{ true }}'}"), "steps[1].if", "put all of it between"),
    "a bare if": Case(
        step("{id: a, run: ls, if: true and» more}").replace("and»", "»and"), "steps[1].if", "and is not"
    ),
    "a quoted if": Case(
        step("{id: a, run: ls, if: 'success(»1)'}").replace("success(»", "»success("), "steps[1].if", "0"
    ),
    "no end": Case(step("{id: a, run: 'ls »${{ true'}"), "steps[1].run", "close it with }}"),
    "an error within": Case(step("{id: a, run: 'ls ${{ 1 +» 2 }}'}").replace("+»", "»+"), "steps[1].run", "no meaning"),
    "an unknown input": Case(step("{id: a, run: 'ls ${{ »inputs.x }}'}"), "steps[1].run", "declare it under inputs"),
    "an unknown variable": Case(step("{id: a, run: 'ls ${{ »env.HOME }}'}"), "steps[1].run", "declare it under env"),
    "no matrix": Case(step("{id: a, run: 'ls ${{ »matrix.x }}'}"), "steps[1].run", "this step has no matrix"),
    "an unknown step": Case(
        step("{id: a, needs: first, if: »steps.frst.state == 'x', run: ls}"), "steps[1].if", "did you mean first?"
    ),
    "an unknown output": Case(
        step("{id: a, needs: first, run: '${{ »steps.first.outputs.fil }}'}"), "steps[1].run", "did you mean file?"
    ),
    "an output of what it does not need": Case(
        step("{id: a, run: '${{ »steps.first.outputs.file }}'}"), "steps[1].run", "add it to needs"
    ),
    "steps in the env of all": Case(
        "env: {A: '${{ »steps.a.state }}'}\nsteps: [{id: a, run: ls}]", "env.A", "known only within steps"
    ),
    "status out of place": Case(step("{id: a, run: 'ls ${{»success() }}'}"), "steps[1].run", "only in the if"),
    "a variable of agentd": Case(step("{id: a, run: ls, env: {»AGENTD_URL: x}}"), "steps[1].env.AGENTD_URL", "rename"),
    "a bad variable": Case(step("{id: a, run: ls, env: {»a-b: x}}"), "steps[1].env.a-b", "letters, digits and _"),
    "a variable with a list": Case(step("{id: a, run: ls, env: {A: »[x]}}"), "steps[1].env.A", "not a list"),
    "a bad timeout": Case(step("{id: a, run: ls, timeout: »2 parsecs}"), "steps[1].timeout", "90s, 2m or 1h"),
    "no timeout": Case(step("{id: a, run: ls, timeout: »0}"), "steps[1].timeout", "more than 0"),
    "a bad retry": Case(step("{id: a, run: ls, retry: »often}"), "steps[1].retry", "retry is how often"),
    "a bad part of retry": Case(
        step("{id: a, run: ls, retry: {max: »-1}}"), "steps[1].retry.max", "expected `int` >= 0"
    ),
    "an unknown part of retry": Case(
        step("{id: a, run: ls, retry: {»mx: 1}}"), "steps[1].retry.mx", "did you mean max"
    ),
    "a retry that depends": Case(
        step("{id: a, run: ls, retry: »{max: '${{ 1 }}'}}"), "steps[1].retry", "cannot have expr"
    ),
    "no flag": Case(step("{id: a, run: ls, continue_on_error: »yes}"), "steps[1].continue_on_error", "true or false"),
    "a bad output": Case(step("{id: a, run: ls, outputs: [»a b]}"), "steps[1].outputs[0]", "letters, digits"),
    "an output twice": Case(step("{id: a, run: ls, outputs: [b, »b]}"), "steps[1].outputs[1]", "named twice"),
    "a matrix of a text": Case(step("{id: a, run: ls, matrix: »x}"), "steps[1].matrix", "keys and values, not a text"),
    "a matrix of texts": Case(step("{id: a, run: ls, matrix: {x: »1}}"), "steps[1].matrix.x", "must be a list"),
    "an empty axis": Case(step("{id: a, run: ls, matrix: {x: »[]}}"), "steps[1].matrix.x", "has no values"),
    "a value twice": Case(step("{id: a, run: ls, matrix: {x: [1, »'1']}}"), "steps[1].matrix.x[1]", "here twice"),
    "a value that depends": Case(
        step("{id: a, run: ls, matrix: {x: [»'${{ inputs.a }}']}}"), "steps[1].matrix.x[0]", "fixed before a run"
    ),
    "an exclude of nothing": Case(
        step("{id: a, run: ls, matrix: {os: [a, b], exclude: [»{o: a}]}}"), "steps[1].matrix.exclude[0]", "mean os?"
    ),
    "all excluded": Case(
        step("{id: a, run: ls, matrix: »{x: [1], exclude: [{x: 1}]}}"), "steps[1].matrix", "no combination left"
    ),
    "an include twice": Case(
        step("{id: a, run: ls, matrix: »{include: [{x: 1}, {x: 1}]}}"), "steps[1].matrix", "x=1 is in the matrix twice"
    ),
    "a long combination": Case(
        step(f"{{id: a, run: ls, matrix: »{{x: [{'y' * 200}]}}}}"), "steps[1].matrix", "shorten the values"
    ),
    "a matrix that explodes": Case(
        step("{id: a, run: ls, matrix: »{" + ", ".join(f"k{n}: [1, 2, 3, 4]" for n in range(12)) + "}}"),
        "steps[1].matrix",
        "has 16777216 combinations; at most 256",
    ),
    "a matrix of more combinations than Python writes": Case(
        step("{id: a, run: ls, matrix: »{" + ", ".join(f"k{n}: [1, 2, 3, 4]" for n in range(7500)) + "}}"),
        "steps[1].matrix",
        "has more than 1000000000 combinations; at most 256",
    ),
    "a matrix just too large": Case(
        step(f"{{id: a, run: ls, matrix: »{{x: {list(range(257))}}}}}"), "steps[1].matrix", "has 257 combinations"
    ),
    "an input without braces": Case(
        "inputs: {a: »six}\nsteps: [{id: a, run: ls}]", "inputs.a", "must be keys and values, not a text"
    ),
    "an input never missing": Case(
        "inputs: {a: {default: 1, required: »true}}\nsteps: [{id: a, run: ls}]", "inputs.a.required", "leave out one"
    ),
    "an unknown key of an input": Case(
        "inputs: {a: {»defualt: 1}}\nsteps: [{id: a, run: ls}]", "inputs.a.defualt", "did you mean default?"
    ),
    "a name that depends": Case("name: »${{ 1 }}\nsteps: [{id: a, run: ls}]", "name", "cannot have expressions"),
    "a name that is a list": Case("name: »[a]\nsteps: [{id: a, run: ls}]", "name", "must be a text, not a list"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_wrong_is_told_with_its_place_and_the_remedy(case: Case) -> None:
    before, _, after = case.text.partition("»")
    error = refused(before + after)
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    found = [(each.line, each.column, each.path) for each in error.problems]
    if case.message in ("", "is not YAML", "quote a text that begins with !"):  # places and words are the parser's
        assert line in {each[0] for each in found}
        return
    assert found == [(line, column, case.path)], error.problems
    assert case.message in error.problems[0].message


def test_an_error_in_a_block_is_found_where_it_stands() -> None:
    text = "steps:\n  - id: a\n    run: |\n      echo ${{ 'ok' }}\n\n      echo ${{ 'ok' }} ${{ nothing }}\n"
    [problem] = refused(text).problems
    assert (problem.line, problem.column) == (6, 28)
    folded = text.replace("|", ">-")
    assert refused(folded).problems[0][:2] == (6, 28)
    assert refused(text.replace("\n", "\r\n")).problems[0][:2] == (6, 28)


def test_lines_that_only_yaml_counts_do_not_move_the_place() -> None:
    [problem] = refused("# é 🙂 \u2028\nsteps: [{id: a, run: '🙂 ${{ x }}'}]").problems
    assert (problem.line, problem.column) == (2, 29)


def test_all_problems_are_told_at_once_in_the_order_of_the_text() -> None:
    text = "nam: a\nsteps:\n  - {id: 1a, rum: ls}\n  - {id: b, run: '${{ x }}', needs: [c]}\n"
    error = refused(text)
    assert [(each.line, each.path) for each in error.problems] == [
        (1, "nam"),
        (3, "steps[0]"),
        (3, "steps[0].id"),
        (3, "steps[0].rum"),
        (4, "steps[1].run"),
        (4, "steps[1].needs[0]"),
    ]
    assert error.detail.startswith("line 1, column 1: a workflow has no key nam")
    assert error.detail.endswith("(and 5 more)")
    assert error.errors[0] == FieldError("nam", "line 1, column 1: " + error.problems[0].message)


def test_a_thousand_problems_are_counted_and_a_hundred_told() -> None:
    error = refused("steps:\n" + "  - {id: a, rum: ls, needs: [x]}\n" * 400)
    assert len(error.problems) == 100
    assert "more)" in error.detail


def test_the_error_has_a_code_of_its_own_and_is_an_invalid_input() -> None:
    assert by_code()["workflow_invalid"] is WorkflowInvalid
    assert isinstance(refused(""), Invalid)


def test_five_hundred_steps_are_allowed_and_one_more_is_not() -> None:
    lines = [f"  - {{id: s{n}, run: ls, needs: [{f's{n - 1}' if n else ''}]}}\n" for n in range(MAX_STEPS + 1)]
    found = read("steps:\n" + "".join(lines[:-1]), KINDS)
    assert list(found.order) == [f"s{n}" for n in range(MAX_STEPS)]
    [problem] = refused("steps:\n" + "".join(lines)).problems
    assert (problem.line, problem.column, problem.path) == (MAX_STEPS + 2, 5, f"steps[{MAX_STEPS}]")


def test_a_circle_of_all_steps_is_named_in_short() -> None:
    lines = [f"  - {{id: s{n}, run: ls, needs: [s{(n + 1) % 500}]}}\n" for n in range(500)]
    [problem] = refused("steps:\n" + "".join(lines)).problems
    assert "s0 -> s1 -> s2" in problem.message
    assert problem.message.count("->") == 11


def test_two_circles_are_both_named() -> None:
    lines = ["a: b", "b: a", "c: d", "d: e", "e: c"]
    text = "steps:\n" + "".join(f"  - {{id: {a}, run: ls, needs: [{b}]}}\n" for a, b in (x.split(": ") for x in lines))
    found = refused(text).problems
    assert [each.line for each in found] == [2, 4]
    assert "a -> b -> a" in found[0].message
    assert "c -> d -> e -> c" in found[1].message


def test_a_thousand_tasks_are_allowed_and_more_are_not() -> None:
    axis = f"matrix: {{x: {list(range(250))}}}"
    lines = [f"  - {{id: s{n}, run: ls, {axis}}}\n" for n in range(4)]
    assert len(read("steps:\n" + "".join(lines), KINDS).instances) == 1000
    [problem] = refused("steps:\n" + "".join(lines) + "  - {id: more, run: ls}\n").problems
    assert (problem.line, problem.column, problem.path) == (6, 5, "steps[4].matrix")
    assert "1001 tasks" in problem.message


def test_a_text_that_is_too_large_or_no_utf_8_is_refused_where_it_ends() -> None:
    assert "larger than 1 MiB" in refused(b"#" * ((1 << 20) + 1)).detail
    [problem] = refused(b"steps: [{id: a, run: ls}]\n# \xff").problems
    assert (problem.line, problem.column) == (2, 3)
    assert "UTF-8" in problem.message


def test_aliases_that_grow_are_refused_before_they_have_grown() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    [problem] = refused("\n".join(lines)).problems
    assert "50000 parts" in problem.message


def test_an_alias_counts_as_deep_as_what_it_stands_for() -> None:
    text = f"inputs: &a {'[' * 20}{']' * 20}\nenv: {'[' * 12}*a"
    [problem] = refused(text + "]" * 12).problems
    assert (problem.line, problem.column) == (2, 18)
    assert "nested more than 32 deep" in problem.message
