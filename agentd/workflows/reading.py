"""A workflow file as text becomes a `Workflow`, or one error with all that is wrong and where."""

from __future__ import annotations

from collections.abc import Mapping as ReadOnly
from typing import Any

from agentd.errors import FieldError, Invalid
from agentd.kinds.protocol import Kind
from agentd.workflows import graph, references
from agentd.workflows.definition import MAX_INSTANCES, MAX_STEPS, Input, ScalarValue, Step, Workflow
from agentd.workflows.evaluation import is_number, shown
from agentd.workflows.parts import Parts, join
from agentd.workflows.problems import Problems, named
from agentd.workflows.source import Mapping, Node, Scalar, decoded, parsed, scalar_value
from agentd.workflows.steps import Draft

KEYS = ("name", "description", "inputs", "env", "steps")
INPUT_KEYS = ("default", "required", "description")


def read(raw: bytes | str, kinds: ReadOnly[str, Kind]) -> Workflow:
    """The workflow that the text describes; `kinds` are those that tasks can have.

    The largest texts take up to a second of processor time, and several without libyaml: not for an event loop.

    Raises:
        WorkflowInvalid: with every problem that was found; nothing else is raised.
    """
    text = decoded(raw)
    problems = Problems(text)
    root = parsed(text, problems)
    return _Reading(Parts(text, problems), kinds).workflow(root)


def accepted_inputs(workflow: Workflow, given: ReadOnly[str, Any]) -> dict[str, ScalarValue]:
    """The inputs of a run: those that were given, and the defaults of the others.

    A text is read as the type of the default, so that `--input count=3` gives the number that the default is one.

    Raises:
        Invalid: one is unknown, missing or not of that type; `errors` names each.
    """
    found: dict[str, ScalarValue] = {}
    there_are = f"no such input; there are {named(workflow.inputs) or 'none'}"
    wrong = [FieldError(f"inputs.{name[:100]}", there_are) for name in given.keys() - workflow.inputs.keys()]
    for name, each in workflow.inputs.items():
        if name in given:
            try:
                found[name] = _typed(given[name], each.default)
            except ValueError as error:
                wrong.append(FieldError(f"inputs.{name}", str(error)))
        elif each.required:
            wrong.append(FieldError(f"inputs.{name}", "must be given"))
        else:
            found[name] = "" if each.default is None else each.default
    if wrong:
        wrong.sort()
        raise Invalid("; ".join(f"{field}: {message}" for field, message in wrong[:5]), errors=wrong)
    return found


def _typed(given: Any, default: ScalarValue) -> ScalarValue:
    value: ScalarValue = given
    if not isinstance(value, str | bool | int | float):
        raise ValueError("must be a text, a number, true or false")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("must be valid Unicode") from None
    if isinstance(default, bool):
        value = {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value
        if not isinstance(value, bool):
            raise ValueError("must be true or false, as its default is")
    elif is_number(default):
        value = scalar_value(value) if isinstance(value, str) else value
        if not is_number(value):
            raise ValueError("must be a number, as its default is")
    elif isinstance(default, str):
        value = shown(value)
    return value


class _Reading:
    def __init__(self, parts: Parts, kinds: ReadOnly[str, Kind]) -> None:
        self._parts = parts
        self._problems = parts.problems
        self._kinds = kinds

    def workflow(self, root: Node) -> Workflow:
        parts = self._parts
        mapping = parts.mapping(root, "", "a workflow")
        if mapping is None:
            raise self._problems.error()
        parts.known(mapping, KEYS, "", "a workflow")
        entries = mapping.entries
        inputs = self._inputs(entries.get("inputs"))
        env = parts.env(entries.get("env"), "env")
        for used in parts.used:
            references.check(parts, used, references.Scope(inputs))
        parts.used = []
        drafts = self._drafts(mapping)
        order = self._order(drafts)
        self._check_references(drafts, order, inputs, env)
        name = parts.words(entries.get("name"), "name", "the name", 200)
        description = parts.words(entries.get("description"), "description", "the description")
        self._problems.check()
        steps = {draft.id: self._step(draft) for draft in drafts if draft.id is not None}
        total = 0
        for draft in drafts:
            total += len(draft.combinations)
            if total > MAX_INSTANCES:
                at = draft.node.entries.get("matrix", draft.node)
                words = f"with this step a run has {total} tasks; at most {MAX_INSTANCES} are allowed"
                parts.wrong(at, f"{draft.path}.matrix", words)
                break
        self._problems.check()
        return Workflow(
            name=name or "workflow", description=description, inputs=inputs, env=env, steps=steps, order=tuple(order)
        )

    def _inputs(self, node: Node | None) -> dict[str, Input]:
        parts = self._parts
        mapping = parts.mapping(node, "inputs", "inputs")
        found: dict[str, Input] = {}
        for name, each in mapping.entries.items() if mapping else ():
            assert mapping is not None
            path = join("inputs", name)
            parts.identifier(mapping.keys[name], path, "an input")
            nothing = isinstance(each, Scalar) and each.value is None
            body = None if nothing else parts.mapping(each, path, "an input, as {default: …},")
            entries = body.entries if body else {}
            if body is not None:
                parts.known(body, INPUT_KEYS, path, "an input")
            default = entries.get("default")
            found[name] = Input(
                name=name,
                default=None if default is None else parts.scalar(default, f"{path}.default", "a default"),
                required=parts.flag(entries.get("required"), f"{path}.required", "required"),
                description=parts.words(entries.get("description"), f"{path}.description", "a description"),
            )
            if found[name].required and default is not None:
                words = "an input with a default is never missing; leave out one of default and required"
                parts.wrong(entries["required"], f"{path}.required", words)
        return found

    def _drafts(self, mapping: Mapping) -> list[Draft]:
        parts = self._parts
        node = mapping.entries.get("steps")
        nodes = parts.items(node, "steps", "steps")
        if node is None:
            parts.wrong(mapping, "", "there are no steps; add `steps:` with a list")
        elif not nodes and not self._problems:
            parts.wrong(node, "steps", "there are no steps; add one, as `- {id: hello, run: echo hello}`")
        if len(nodes) > MAX_STEPS:
            words = f"there are {len(nodes)} steps; at most {MAX_STEPS} are allowed"
            parts.wrong(nodes[MAX_STEPS], f"steps[{MAX_STEPS}]", words)
            raise self._problems.error()
        drafts: list[Draft] = []
        seen: set[str] = set()
        for n, each in enumerate(nodes):
            body = parts.mapping(each, f"steps[{n}]", "a step")
            if body is None:
                continue
            draft = Draft(body, f"steps[{n}]", parts, self._kinds)
            if draft.id in seen:
                parts.wrong(body.entries["id"], f"{draft.path}.id", f"a step {draft.id} is above; ids are given once")
            elif draft.id is not None:
                seen.add(draft.id)
            drafts.append(draft)
        return drafts

    def _order(self, drafts: list[Draft]) -> list[str]:
        """Ids so that each comes after its needs; some are missing where something is wrong with needs."""
        by_id = {draft.id: draft for draft in reversed(drafts) if draft.id is not None}
        known = dict.fromkeys(draft.id for draft in drafts if draft.id is not None)
        for draft in drafts:
            single = isinstance(draft.node.entries.get("needs"), Scalar)
            for n, (need, at) in enumerate(draft.needs.items()):
                if need not in known:
                    guess = self._problems.near(need, known, "; name one by its id")
                    path = f"{draft.path}.needs" if single else f"{draft.path}.needs[{n}]"
                    self._parts.wrong(at, path, f"there is no step {need}{guess}")
        order, circles = graph.ordered({id: [need for need in by_id[id].needs if need in known] for id in known})
        for circle in circles:
            first, second = by_id[circle[0]], circle[1]
            shown = " -> ".join(circle if len(circle) <= 12 else [*circle[:6], "…", *circle[-5:]])
            words = f"these steps wait for each other: {shown}; take one of these needs out"
            self._parts.wrong(first.needs[second], f"{first.path}.needs", words)
        return order

    def _check_references(
        self, drafts: list[Draft], order: list[str], inputs: dict[str, Input], env: dict[str, Any]
    ) -> None:
        by_id = {draft.id: draft for draft in reversed(drafts) if draft.id is not None}
        above = graph.above({id: [need for need in by_id[id].needs if need in by_id] for id in order}, order)
        outputs = {id: each.outputs for id, each in by_id.items()}
        all_known = all(need in by_id for draft in drafts for need in draft.needs)  # else that is told first
        for draft in drafts:
            if not draft.used():
                continue
            bits = above.get(draft.id or "") if all_known else None
            needed = None if bits is None else {id for n, id in enumerate(order) if bits >> n & 1}
            scope = references.Scope(inputs, env, draft.matrix_keys, outputs, needed)
            for used in draft.used_by_env:
                references.check(self._parts, used, scope)
            scope = scope._replace(env={*env, *draft.env})
            for used in draft.used_by_spec:
                references.check(self._parts, used, scope)
            for used in draft.used_by_condition:
                references.check(self._parts, used, scope._replace(status=True))

    def _step(self, draft: Draft) -> Step:
        assert draft.id is not None
        return Step(
            id=draft.id,
            name=draft.name,
            kind=draft.kind,
            spec=draft.spec,
            env=draft.env,
            takes_env=draft.takes_env,
            needs=tuple(draft.needs),
            condition=draft.condition,
            timeout_s=draft.timeout_s,
            retry=draft.retry,
            continue_on_error=draft.continue_on_error,
            outputs=draft.outputs,
            instances=draft.instances(),
            line=self._problems.line(draft.node.at),
        )
