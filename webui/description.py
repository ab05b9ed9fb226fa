"""What an agent says it takes: its OpenAPI document, as the fields of forms."""

from __future__ import annotations

from typing import Any

from webui.rows import refuse
from webui.schema_form import Field, fields_of, resolved
from webui.upstream import Agent
from webui.visit import Visit

#: Fields of a task that its form has no use for: the kind is chosen before, what made it is a person.
_NOT_ASKED = ("kind", "spec", "trigger")


class Description:
    """One agent's OpenAPI document. Whatever is missing in it is asked for as JSON."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        kinds = document.get("x-agentd-kinds")
        self._kinds = {
            str(name): kind
            for name, kind in (kinds if isinstance(kinds, dict) else {}).items()
            if isinstance(kind, dict)
        }

    @property
    def kinds(self) -> dict[str, str]:
        """The title of each kind of task, by its name."""
        return {name: str(kind.get("title") or name) for name, kind in self._kinds.items()}

    def task_fields(self, kind: str) -> tuple[Field, ...]:
        """What a new task of this kind takes: `spec` first, then what every task has."""
        body = self._body("/tasks")
        spec = self._kinds.get(kind, {}).get("spec")
        spec = {**spec, "title": self.kinds[kind]} if isinstance(spec, dict) else {}
        shared = {name: each for name, each in body.get("properties", {}).items() if name not in _NOT_ASKED}
        schema = {
            "properties": {"spec": spec, **shared},
            "required": ["spec", *body.get("required", ())],
        }
        return fields_of(schema, self._document)

    @property
    def says_trigger(self) -> bool:
        """Whether a new task can say what made it."""
        return "trigger" in self._body("/tasks").get("properties", {})

    def session_fields(self) -> tuple[Field, ...]:
        """What a new session takes."""
        return fields_of(self._body("/sessions"), self._document)

    def _body(self, path: str) -> dict[str, Any]:
        """The schema of what is posted to a path, with `properties` and `required` of the right kinds if any."""
        found: Any = self._document
        for part in ("paths", path, "post", "requestBody", "content", "application/json", "schema"):
            found = found.get(part) if isinstance(found, dict) else None
        if isinstance(found, dict) and isinstance(found.get("anyOf"), list) and found["anyOf"]:
            found = found["anyOf"][0]  # the one beside the array of many
        schema = resolved(found, self._document)
        properties, required = schema.get("properties"), schema.get("required")
        return {
            "properties": properties if isinstance(properties, dict) else {},
            "required": required if isinstance(required, list) else [],
        }


async def described(visit: Visit, agent: Agent, *, within_s: float | None = None) -> Description | None:
    """What an agent takes; None when it did not say, which the visit's contacts explain."""
    answer = await visit.ask(agent, "/openapi.json", within_s=within_s)
    if not answer.ok:
        return None
    if not isinstance(answer.value, dict) or not isinstance(answer.value.get("openapi"), str):
        refuse(visit, answer, ("openapi",))
        return None
    return Description(answer.value)
