"""An agent with kinds of tasks that nobody has invented yet, which takes them, refuses them, or says nothing at all."""

from __future__ import annotations

from typing import Any

from .scripted_agent import ScriptedAgent

TASK = {"task_id": "t1", "session_id": "s1", "kind": "poem", "state": "queued"}

#: A kind with every form of value that JSON Schema has names for, and one that it has none for.
POEM = {
    "type": "object",
    "required": ["prompt", "mood"],
    "properties": {
        "prompt": {"type": "string", "description": "What it is <b>about</b>."},
        "mood": {"$ref": "#/components/schemas/Mood"},
        "verses": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 9}, {"type": "null"}], "default": 3},
        "warmth": {"type": "number", "default": 0.5},
        "rhymes": {"type": "boolean", "default": True},
        "words": {"type": "array", "items": {"type": "string"}},
        "glossary": {"type": "object", "additionalProperties": {"type": "string"}},
        "layout": {
            "type": "object",
            "properties": {"width": {"type": "integer"}, "font": {"enum": ["serif", "mono"]}},
        },
        "extra": {},
    },
}


def document() -> dict[str, Any]:
    """What the agent says it takes."""
    shared = {
        "kind": {"type": "string"},
        "spec": {"type": "object"},
        "session_id": {"type": "string"},
        "trigger": {"type": "object"},
        "stars": {"type": "integer"},
    }
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewTask"}}}}
    return {
        "openapi": "3.1.0",
        "paths": {"/tasks": {"post": {"requestBody": body}}},
        "x-agentd-kinds": {
            "poem": {"title": "A poem", "spec": {"$ref": "#/components/schemas/Poem"}},
            "dance": {"title": "A dance", "spec": {"type": "object", "properties": {"steps": {"type": "integer"}}}},
        },
        "components": {
            "schemas": {
                "Poem": POEM,
                "Mood": {"title": "Mood", "enum": ["glad", "sad", 7]},
                "NewTask": {"type": "object", "required": ["spec"], "properties": shared},
            }
        },
    }


class InventingAgent(ScriptedAgent):
    """Takes what is posted, with `answer`: a status and a value, or None to hang up. Use it as a context manager.

    `taken` has what was posted: path, Idempotency-Key and body.
    """

    def __init__(self) -> None:
        super().__init__({})
        self.begin()

    def begin(self) -> None:
        """Forget what a test has told and asked of it."""
        self.answers = {"/openapi.json": document(), "/tasks/t1": TASK}
        self.answer: tuple[int, Any] | None = (201, TASK)
        self.taken: list[tuple[str, str | None, Any]] = []

    def posted(self, path: str, key: str | None, body: Any) -> tuple[int, Any] | None:
        self.taken.append((path, key, body))
        return self.answer
