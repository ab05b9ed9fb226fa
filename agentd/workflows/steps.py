"""Reading one step of a workflow file, as far as it can be understood without the others."""

from __future__ import annotations

from collections.abc import Mapping as ReadOnly
from typing import Any

import msgspec
from msgspec.inspect import FloatType

from agentd.errors import Invalid
from agentd.kinds.protocol import Kind
from agentd.model.requests import AskedRetry
from agentd.setting import Setting, read
from agentd.workflows import matrix
from agentd.workflows.definition import Instance, ScalarValue
from agentd.workflows.evaluation import shown
from agentd.workflows.parts import Parts, Used, join
from agentd.workflows.problems import named
from agentd.workflows.source import Mapping, Node, Scalar, Sequence
from agentd.workflows.templates import Template, templates_in

#: What a step can have beside what it does.
KEYS = ["id", "name", "needs", "if", "env", "matrix", "timeout", "retry", "continue_on_error", "outputs"]
#: What a step does, one of these; `kind` goes with `spec`.
ACTIONS = {"run": "shell", "agent": "agent", "docker": "docker", "kind": ""}
#: The field of the spec that these stand for. Beside them a step may have the other fields of that spec.
SHORT = {"run": "command", "agent": "agent"}

MAX_INSTANCE_ID = 200
MAX_OUTPUTS = 100
_TIMEOUT = Setting("timeout_s", FloatType(ge=0.001, le=31_536_000), False, None)


def fields_of(kind: Kind) -> tuple[str, ...]:
    """The names of what a spec of this kind can hold."""
    fields: tuple[str, ...] = getattr(kind.Spec, "__struct_fields__", ())
    return fields


class Draft:
    """A step while it is read: what is wrong is in the problems, and a stand-in here."""

    def __init__(self, node: Mapping, path: str, parts: Parts, kinds: ReadOnly[str, Kind]) -> None:
        self.node = node
        self.path = path
        self._parts = parts
        self._kinds = kinds
        self.id: str | None = parts.identifier(node.entries.get("id"), f"{path}.id", "the id of a step")
        if "id" not in node.entries:
            parts.wrong(node, path, "the step has no id; give it one, as `id: build`")
        self.needs = self._needs()
        self.kind = self.spec_path = ""
        self.spec: dict[str, Any] = {}
        self.takes_env = True
        self._spec_nodes: dict[str, Node] = {}

        self.env = parts.env(node.entries.get("env"), f"{path}.env")
        self.used_by_env, parts.used = parts.used, []
        self.condition = parts.condition(node.entries.get("if"), f"{path}.if")
        self.used_by_condition, parts.used = parts.used, []
        self._action()
        self.name = self._name()
        self.used_by_spec, parts.used = parts.used, []

        self.timeout_s = self._timeout()
        self.retry = self._retry()
        flag = node.entries.get("continue_on_error")
        self.continue_on_error = parts.flag(flag, f"{path}.continue_on_error", "continue_on_error")
        self.outputs = self._outputs()
        self.combinations = self._matrix(node.entries.get("matrix"), f"{path}.matrix")

    @property
    def matrix_keys(self) -> set[str]:
        """What expressions may name of the matrix."""
        return {key for each in self.combinations for key in each}

    def used(self) -> list[Used]:
        """All templates of the step."""
        return [*self.used_by_env, *self.used_by_condition, *self.used_by_spec]

    def instances(self) -> tuple[Instance, ...]:
        """One for each combination of the matrix."""
        assert self.id is not None
        if "matrix" not in self.node.entries:
            return (Instance(instance_id=self.id, step_id=self.id),)
        return tuple(
            Instance(instance_id=f"{self.id}[{matrix.tag(each)}]", step_id=self.id, matrix=each)
            for each in self.combinations
        )

    def _needs(self) -> dict[str, Node]:
        path, node = f"{self.path}.needs", self.node.entries.get("needs")
        single = isinstance(node, Scalar) and node.value is not None
        found: dict[str, Node] = {}
        for n, each in enumerate([node] if single and node else self._parts.items(node, path, "needs")):
            here = path if single else f"{path}[{n}]"
            name = self._parts.identifier(each, here, "the id of a step")
            if name is not None and name == self.id:
                self._parts.wrong(each, here, f"step {name} needs itself; take it out")
            elif name is not None and name in found:
                self._parts.wrong(each, here, f"{name} is named twice; keep one")
            elif name is not None:
                found[name] = each
        return found

    def _action(self) -> None:
        entries, parts, path = self.node.entries, self._parts, self.path
        given = [key for key in ACTIONS if key in entries]
        if len(given) != 1:
            one_of = "exactly one of run, agent, docker and kind"
            parts.wrong(
                self.node.keys[given[1]] if given else self.node,
                join(path, given[1]) if given else path,
                f"a step has {one_of}; this one has {' and '.join(given) or 'none'}",
            )
            every = {field for kind in self._kinds.values() for field in fields_of(kind)}
            parts.known(self.node, [*KEYS, *ACTIONS, "spec", *sorted(every)], path, "a step")
            return
        action, node = given[0], entries[given[0]]
        here = join(path, action)
        name = parts.identifier(node, here, "a kind") if action == "kind" else ACTIONS[action]
        if name is None:
            return
        kind = self._kinds.get(name)
        if kind is None:
            guess = parts.problems.near(name, self._kinds, f"; there are {named(self._kinds)}")
            parts.wrong(node, here, f"there is no kind {name} here{guess}")
            return
        self.kind = name
        fields = fields_of(kind)
        spec: Node = node
        beside: tuple[str, ...] = ()
        if action == "kind":
            self.spec_path = f"{path}.spec"
            spec, beside = entries.get("spec", Mapping(node.at, node.at)), ("spec",)
        elif action in SHORT and not isinstance(node, Mapping):
            self.spec_path = path
            beside = tuple(field for field in fields if field not in {*KEYS, *ACTIONS, "argv"})
            spec = Mapping(node.at, node.end)
            spec.entries = {SHORT[action]: node} | {key: entries[key] for key in beside if key in entries}
        else:
            self.spec_path = here
        parts.known(self.node, [*KEYS, *ACTIONS, *beside], path, "a step")
        self._read_spec(kind, spec, fields, short=SHORT.get(action) if spec is not node else None, action=action)

    def _read_spec(self, kind: Kind, node: Node, fields: tuple[str, ...], *, short: str | None, action: str) -> None:
        parts = self._parts
        mapping = parts.mapping(node, self.spec_path, "spec" if action == "kind" else action)
        if mapping is None:
            return
        before = len(parts.used), len(parts.problems)
        if short is None:
            parts.known(mapping, fields, self.spec_path, f"the spec of {kind.name}")
        for key, each in mapping.entries.items():
            here = join(self.path, action) if key == short else join(self.spec_path, key)
            self._spec_nodes[key] = each
            # A command is a text however it is written; elsewhere a number is one.
            self.spec[key] = parts.templated(each, here) if key == short else parts.tree(each, here)
        operation = self.spec.get("operation", "run")
        self.takes_env = "env" in fields and not (kind.name == "docker" and operation != "run")
        if self.env and not self.takes_env:
            parts.wrong(self.node.keys["env"], f"{self.path}.env", f"this {kind.name} step takes no env; take it out")
        if (len(parts.used), len(parts.problems)) == before:
            self._check(kind, mapping, short, action)

    def _check(self, kind: Kind, mapping: Mapping, short: str | None, action: str) -> None:
        """What the kind itself says of a spec without expressions; of others it does when the step starts."""
        try:
            kind.check(self.spec)
        except Invalid as error:
            for field, message in error.errors or [("spec", error.detail)]:
                name = field.removeprefix("spec").lstrip(".")
                key = name.partition(".")[0].partition("[")[0]
                path = join(self.path, action) if key == short else join(self.spec_path, name).rstrip(".")
                self._parts.wrong(self._spec_nodes.get(key, mapping), path, f"{name or kind.name}: {message}")

    def _name(self) -> str | Template | None:
        node = self.node.entries.get("name")
        return None if node is None else self._parts.templated(node, f"{self.path}.name")

    def _timeout(self) -> float | None:
        node = self.node.entries.get("timeout")
        if node is None:
            return None
        try:
            seconds: float = read(_TIMEOUT, node.value if isinstance(node, Scalar) else None)
            return seconds
        except ValueError:
            words = "timeout must be seconds, or a text like 90s, 2m or 1h: more than 0, and at most a year"
            self._parts.wrong(node, f"{self.path}.timeout", words)
            return None

    def _retry(self) -> AskedRetry | None:
        node, path = self.node.entries.get("retry"), f"{self.path}.retry"
        if node is None:
            return None
        if isinstance(node, Mapping):
            self._parts.known(node, AskedRetry.__struct_fields__, path, "retry")
            if not node.entries.keys() <= set(AskedRetry.__struct_fields__):
                return None
            asked, before = self._parts.tree(node, path), len(self._parts.used)
        else:
            asked, before = {"max": getattr(node, "value", None)}, len(self._parts.used)
        try:
            if any(True for _ in templates_in(asked)):
                raise msgspec.ValidationError("cannot have expressions: it is fixed before a run")
            return msgspec.convert(asked, AskedRetry)
        except msgspec.ValidationError as error:
            message, _, place = str(error).partition(" - at `$")
            key = place.strip(".`").partition("[")[0]
            at = node.entries.get(key, node) if isinstance(node, Mapping) else node
            words = f"{message[:1].lower()}{message[1:]}; retry is how often, or {{max, on, backoff_s, …}} as of a task"
            self._parts.wrong(at, join(path, key) if at is not node else path, words)
            del self._parts.used[before:]
            return None

    def _outputs(self) -> tuple[str, ...]:
        path = f"{self.path}.outputs"
        nodes = self._parts.items(self.node.entries.get("outputs"), path, "outputs")
        found: dict[str, None] = {}
        for n, each in enumerate(nodes):
            name = self._parts.identifier(each, f"{path}[{n}]", "an output")
            if name in found:
                self._parts.wrong(each, f"{path}[{n}]", f"{name} is named twice; keep one")
            elif name is not None:
                found[name] = None
        if len(found) > MAX_OUTPUTS:
            self._parts.wrong(
                nodes[MAX_OUTPUTS], path, f"a step has at most {MAX_OUTPUTS} outputs; write a file instead"
            )
        return tuple(found)

    def _matrix(self, node: Node | None, path: str) -> list[matrix.Combination]:
        mapping = self._parts.mapping(node, path, "matrix")
        if mapping is None:
            return [{}]
        axes: dict[str, list[ScalarValue]] = {}
        before = len(self._parts.problems)
        for key, each in mapping.entries.items():
            if key not in ("include", "exclude"):
                axes[key] = self._axis(mapping, key, each, join(path, key))
        include, exclude = (self._entries(mapping.entries.get(key), f"{path}.{key}") for key in ("include", "exclude"))
        for n, entry in enumerate(exclude):
            if unknown := [key for key in entry if key not in axes]:
                at = mapping.entries["exclude"]
                guess = self._parts.problems.near(unknown[0], axes)
                words = f"the matrix has no key {unknown[0]}, so nothing is excluded{guess}"
                self._parts.wrong(at.items[n] if isinstance(at, Sequence) else at, f"{path}.exclude[{n}]", words)
        if len(self._parts.problems) > before:
            return [dict.fromkeys([*axes, *(key for entry in include for key in entry)], "")]
        try:
            found = matrix.expanded(axes, include, exclude)
        except matrix.MatrixError as error:
            self._parts.wrong(mapping, path, str(error))
            return [dict.fromkeys(axes, "")]
        longest = max(len(f"{self.id}[{matrix.tag(each)}]") for each in found)
        if longest > MAX_INSTANCE_ID:
            words = f"a combination and the id come to {longest} characters; at most {MAX_INSTANCE_ID} are shown"
            self._parts.wrong(mapping, path, f"{words}, so shorten the values")
        return found

    def _axis(self, mapping: Mapping, key: str, node: Node, path: str) -> list[ScalarValue]:
        self._parts.identifier(mapping.keys[key], path, "a matrix key")
        nodes = self._parts.items(node, path, f"{key[:100]} of a matrix")
        if isinstance(node, Sequence) and not nodes:
            self._parts.wrong(node, path, f"{key[:100]} has no values; give it some, or leave it out")
        found: dict[str, ScalarValue] = {}
        for n, each in enumerate(nodes):
            value = self._parts.scalar(each, f"{path}[{n}]", "a value of a matrix")
            if shown(value) in found:
                self._parts.wrong(each, f"{path}[{n}]", f"{shown(value)[:100] or 'nothing'} is here twice; keep one")
            found[shown(value)] = value
        return list(found.values())

    def _entries(self, node: Node | None, path: str) -> list[matrix.Combination]:
        found = []
        for n, each in enumerate(self._parts.items(node, path, path.rpartition(".")[2])):
            entry = self._parts.mapping(each, f"{path}[{n}]", "an entry")
            combination: matrix.Combination = {}
            for key, value in entry.entries.items() if entry else ():
                assert entry is not None
                self._parts.identifier(entry.keys[key], f"{path}[{n}]", "a matrix key")
                combination[key] = self._parts.scalar(value, f"{path}[{n}].{key[:100]}", "a value of a matrix")
            if combination:
                found.append(combination)
            elif entry is not None:
                self._parts.wrong(entry, f"{path}[{n}]", "an entry has at least one key")
        return found
