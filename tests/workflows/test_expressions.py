"""Expressions: what they mean, and where they are wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest

from agentd.workflows.evaluation import MAX_TEXT, Before, Names, evaluate, shown, truth
from agentd.workflows.expressions import FUNCTIONS, parse
from agentd.workflows.templates import MAX_SPEC_TEXT, Rendering, Template, template
from agentd.workflows.tokens import ExpressionError

NAMES = Names(
    inputs={"n": 3, "text": "abc", "yes": True, "list": '[1, "two", {"k": [null]}]'},
    env={"HOME": "/root", "EMPTY": ""},
    matrix={"python": "3.10"},
    outputs={"fetch": {"file": "six.whl", "count": "7"}},
    states={"fetch": "completed"},
    before=Before(success=False, failure=True, cancelled=False),
)

VALUES: dict[str, Any] = {
    "'it''s'": "it's",
    "''": "",
    "12": 12,
    "-1.5": -1.5,
    "1e3": 1000.0,
    "true": True,
    "null": None,
    "inputs.n": 3,
    "inputs.other": "",
    "env.HOME": "/root",
    "matrix.python": "3.10",
    "matrix.os": "",
    "steps.fetch.outputs.file": "six.whl",
    "steps.fetch.outputs.none": "",
    "steps.other.outputs.none": "",
    "steps.fetch.state": "completed",
    "steps.other.state": "",
    # by value, a text as a number where it is one
    "steps.fetch.outputs.count == 7": True,
    "steps.fetch.outputs.count > 10": False,
    "'10' > '9'": True,
    "'b' > 'a'": True,
    "'a' < 1": False,
    "'a' >= 1": False,
    "1 <= 1.0": True,
    "1 != 1.0": False,
    "'1.0' == '1'": False,
    "'Abc' == 'abc'": False,
    "'' == null": False,
    "0 == false": False,
    "true == 1": False,
    "null == null": True,
    "null < 1": False,
    # what counts as true, and what && and || give
    "'a' && 'b'": "b",
    "'' && 'b'": "",
    "'' || 'b'": "b",
    "'' || 0": 0,
    "'a' && '' || 'c'": "c",
    "true || false && false": True,
    "(true || false) && false": False,
    "!'false'": False,
    "!!''": False,
    "!inputs.yes == false": True,  # ! binds most
    # functions
    "success()": False,
    "failure()": True,
    "cancelled()": False,
    "always()": True,
    "contains('abc', 'b')": True,
    "contains('abc', '')": True,
    "contains('abc', 'B')": False,
    "contains(12, 2)": True,
    "contains(fromJSON(inputs.list), 'two')": True,
    "contains(fromJSON(inputs.list), 'w')": False,
    "startsWith('abc', 'ab')": True,
    "endsWith('abc', 'bc')": True,
    "format('{0}-{1}-{0}', 'a', 2)": "a-2-a",
    "format('{{0}} {0}', 'a')": "{0} a",
    "format('{1}', 'a')": "{1}",
    "fromJSON(inputs.list)[1]": "two",
    "fromJSON(inputs.list)['1']": "two",
    "fromJSON(inputs.list)[2].k[0]": None,
    "fromJSON(inputs.list)[9]": None,
    "fromJSON(inputs.list)[-1]": None,
    "fromJSON('{\"a\": {\"b\": 1}}').a['b']": 1,
    "fromJSON('{')": None,
    "fromJSON('{').a.b": None,
    "fromJSON('[1]') == fromJSON('[1]')": True,
    "fromJSON('[1]') == fromJSON('[2]')": False,
    "toJSON(fromJSON(inputs.list))": '[1,"two",{"k":[null]}]',
    "toJSON(inputs.text)": '"abc"',
}


@pytest.mark.parametrize("text", VALUES)
def test_an_expression_comes_to_its_value(text: str) -> None:
    value = evaluate(parse(text), NAMES)
    assert value == VALUES[text]
    assert type(value) is type(VALUES[text])


WRONG = {
    "»": "empty",
    "  »": "empty",
    "1 »2": "2 is not expected",
    "1 == »": "ends where a value",
    "»== 1": "a value is expected, not ==",
    "(1»": ") is missing",
    "1 < 2 »< 3": "comparisons do not chain",
    "»'abc": "no end",
    '»"abc"': "single quotes",
    "1 »= 2": "compare with ==",
    "true »& false": "write &&",
    "»012": "no number",
    "»1.2.3": "no number",
    "1 »+ 2": "no meaning",
    "»foo": "there are inputs, env, steps, matrix",
    "»foo()": "there is no function foo; there are success",
    "»success": "call it: success()",
    "»success(1)": "takes 0 arguments, not 1",
    "»contains('a')": "takes 2 arguments, not 1",
    "»format()": "takes 1 to 50 arguments, not 0",
    "contains('a' »'b')": ", is missing",
    "»inputs": "write inputs.NAME",
    "inputs.»": "a name follows the dot",
    "»inputs['a']": "write inputs.NAME",
    "»steps.a": "write steps.ID.outputs.NAME or steps.ID.state",
    "»steps.a.output.b": "outputs and state",
    "»steps.a.outputs": "write steps.ID.outputs.NAME",
    "fromJSON('1').»1": "a name follows the dot",
    "»" + "9" * 20: "18 characters",
    "(" * 33 + "»": "nested more than 32",
    "!" * 33 + "»": "nested more than 32",
    "»" + "1" * 4097: "longer than 4096",
    "fromJSON('1')" + ".a" * 32 + ".»a": "more than 32 parts",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_expression_says_where(text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text.replace("»", ""))
    assert (caught.value.at, caught.value.message) == (text.index("»"), caught.value.message)
    assert WRONG[text] in caught.value.message


def test_every_function_can_be_called() -> None:
    for name, (least, _) in FUNCTIONS.items():
        evaluate(parse(f"{name}({', '.join(['1'] * least)})"), NAMES)


def test_numbers_are_shown_as_people_write_them() -> None:
    assert [shown(each) for each in (1.0, 0.5, 3, 1e20, None, True, [1])] == [
        "1",
        "0.5",
        "3",
        "1e+20",
        "",
        "true",
        "[1]",
    ]
    assert not truth(math.nan)
    assert not truth(0.0)


def test_a_text_that_is_one_expression_keeps_its_type() -> None:
    rendering = Rendering(NAMES)
    tree = {"n": template("${{ inputs.n }}"), "text": [template("n=${{ inputs.n }}"), "plain"], "other": 1}
    assert rendering.value(tree) == {"n": 3, "text": ["n=3", "plain"], "other": 1}


def test_an_expression_ends_at_braces_that_are_not_in_its_texts() -> None:
    found = template("a ${{ '}}' }} b ${{ '${{' }}")
    assert isinstance(found, Template)
    assert Rendering(NAMES).value(found) == "a }} b ${{"


def test_what_grows_without_end_is_cut_where_every_kind_refuses_it() -> None:
    text = "format('{0}{0}{0}{0}{0}{0}{0}{0}', " * 30 + "'aaaaaaaa'" + ")" * 30
    assert len(evaluate(parse(text), NAMES)) == MAX_TEXT + 1
    names = Names(inputs={"big": "a" * 100_000})
    rendering = Rendering(names)
    tree = [template("${{ inputs.big }}b${{ inputs.big }}")] * 1000
    assert sum(map(len, rendering.value(tree))) <= MAX_SPEC_TEXT


def test_numbers_too_large_for_arithmetic_compare_all_the_same() -> None:
    huge = "1" + "0" * 400
    assert evaluate(parse("fromJSON(inputs.huge) > 1"), Names(inputs={"huge": huge})) in (True, False)
    assert evaluate(parse("inputs.huge == 1"), Names(inputs={"huge": huge * 10})) is False
