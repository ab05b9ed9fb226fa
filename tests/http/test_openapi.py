"""The description of the API is valid and complete."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import jsonschema  # type: ignore[import-untyped] # has no types
import pytest
from msgspec import Meta

from agentd.http import problems
from agentd.http.openapi import document
from agentd.http.routes import ROUTES
from agentd.http.routing import Table
from agentd.kinds.registry import kinds
from agentd.kinds.shell import Shell
from agentd.model.requests import NewTask, Request, TaskQuery

from .talk import Api

#: Parameters of queries that must be given.
NEEDED = {("search_output", "q")}


@pytest.fixture(scope="module")
def described() -> Any:
    """The document."""
    return json.loads(document(Table(ROUTES), tuple(kinds().values())))


def resolved(described: Any, ref: str) -> Any:
    found = described
    for part in ref.removeprefix("#/").split("/"):
        found = found[part]
    return found


def refs(value: Any) -> list[str]:
    """Every reference in a document."""
    if isinstance(value, list):
        return [ref for each in value for ref in refs(each)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return own + [ref for each in value.values() for ref in refs(each)]


async def test_it_is_served(api: Api, described: Any) -> None:
    answer = await api.ask("GET", "/openapi.json")
    assert answer.json == described
    assert answer.headers["Content-Type"] == "application/json"


def test_it_has_the_form_that_the_specification_asks_for(described: Any) -> None:
    """OpenAPI 3.1.0, by its structure; every schema in it is a valid JSON Schema 2020-12."""
    assert described["openapi"] == "3.1.0"
    assert {"title", "version"} <= described["info"].keys()
    for ref in refs(described):
        resolved(described, ref)
    for schema in described["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    ids = []
    for path, item in described["paths"].items():
        assert path.startswith("/")
        for method, operation in item.items():
            assert method in ("get", "post", "put", "patch", "delete")
            ids.append(operation["operationId"])
            named = [(p["name"], p["in"]) for p in operation["parameters"]]
            assert len(named) == len(set(named))
            assert {name for name, place in named if place == "path"} == set(re.findall(r"{(\w+)}", path))
            for parameter in operation["parameters"]:
                needed = parameter["in"] == "path" or (operation["operationId"], parameter["name"]) in NEEDED
                assert parameter["required"] is needed
                jsonschema.Draft202012Validator.check_schema(parameter["schema"])
            assert operation["responses"]
            for status, response in operation["responses"].items():
                assert re.fullmatch(r"[1-5]\d\d", status)
                assert "$ref" in response or response["description"]
    assert len(ids) == len(set(ids))


def test_every_route_is_there_with_its_role(described: Any) -> None:
    for route in ROUTES:
        operation = described["paths"][route.path.replace("*}", "}")][route.method.lower()]
        assert operation["operationId"] == route.name
        assert operation["x-role"] == (route.role.name.lower() if route.role else "none")
        assert ("401" in operation["responses"]) is (route.role is not None)


def test_every_error_has_a_response_and_is_told_of_somewhere(described: Any) -> None:
    text = json.dumps(described["paths"])
    assert len(described["components"]["responses"]) == len(problems.STATUS)
    for code, status in problems.STATUS.items():
        if code not in ("not_found", "route_not_found", "method_not_allowed"):  # of no route
            name = "".join(word.capitalize() for word in code.split("_"))
            assert f'"#/components/responses/{name}"' in text or f'"{code}"' in text, (code, status)


def test_whatever_is_made_has_links_to_what_can_be_asked_about_it(described: Any) -> None:
    names = {route.name: re.findall(r"{(\w+)", route.path) for route in ROUTES}
    made = [route for route in ROUTES if 201 in route.answers]
    assert made
    for route in made:
        path = described["paths"][route.path.replace("*}", "}")]
        links = path[route.method.lower()]["responses"]["201"]["links"]
        assert "delete_session" in links or "delete_task" in links or "delete_artifact" in links
        for link in links.values():
            assert list(link["parameters"]) == names[link["operationId"]]


def test_bodies_and_queries_say_what_validates(described: Any) -> None:
    submit = described["paths"]["/tasks"]["post"]
    one, many = submit["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    assert many == {"type": "array", "items": one, "minItems": 1, "maxItems": 1000}
    schema = resolved(described, one["$ref"])
    assert schema["properties"].keys() == set(NewTask.__struct_fields__)
    assert schema["additionalProperties"] is False
    assert schema["properties"]["priority"]["minimum"] == -1000
    query = [p["name"] for p in described["paths"]["/tasks"]["get"]["parameters"] if p["in"] == "query"]
    assert query == list(TaskQuery.__struct_fields__)


def hints(described: Any, ref: str) -> dict[str, str]:
    """The description of each property, also of those within; a property without one is empty."""
    found: dict[str, str] = {}
    for name, schema in resolved(described, ref)["properties"].items():
        found[name] = schema.get("description", "")
        for inner in refs(schema):
            if "properties" in resolved(described, inner):
                found |= {f"{name}.{each}": text for each, text in hints(described, inner).items()}
    return found


def test_every_kind_is_there_with_the_form_of_its_spec(described: Any) -> None:
    assert described["x-agentd-kinds"].keys() == kinds().keys()
    shell = described["x-agentd-kinds"]["shell"]
    assert shell["title"] == "Shell command"
    submit = described["paths"]["/tasks"]["post"]["requestBody"]["content"]["application/json"]["schema"]["anyOf"][0][
        "$ref"
    ]
    for ref in (shell["spec"]["$ref"], submit):
        for name, hint in hints(described, ref).items():
            assert 0 < len(hint) <= 80, name


class RadioSpec(Request, frozen=True, kw_only=True):
    """What to listen to."""

    station: Annotated[str, Meta(description="Which one.")]


class Radio(Shell):
    """A kind that nobody has told the document of."""

    name = "radio"
    title = "Radio"
    Spec: type = RadioSpec


def test_a_new_kind_appears_by_itself() -> None:
    described = json.loads(document(Table(ROUTES), (*kinds().values(), Radio())))
    assert list(described["x-agentd-kinds"]) == ["shell", "agent", "docker", "radio"]
    radio = described["x-agentd-kinds"]["radio"]
    assert radio["title"] == "Radio"
    assert resolved(described, radio["spec"]["$ref"])["required"] == ["station"]
    assert hints(described, radio["spec"]["$ref"]) == {"station": "Which one."}


def test_a_field_lists_what_it_may_be_on_this_system() -> None:
    described = json.loads(document(Table(ROUTES), tuple(kinds({"aider": ("aider", "{prompt}")}).values())))
    spec = resolved(described, described["x-agentd-kinds"]["agent"]["spec"]["$ref"])
    assert spec["properties"]["agent"]["enum"] == ["aider", "claude", "codex", "opencode"]


async def test_answers_are_what_the_document_says(api: Api, described: Any) -> None:
    task = await api.run("echo hi", session_id="s")
    paths = {
        "/sessions": "/sessions",
        "/sessions/{session_id}": "/sessions/s",
        "/sessions/{session_id}/tasks": "/sessions/s/tasks",
        "/sessions/{session_id}/history": "/sessions/s/history",
        "/sessions/{session_id}/events": "/sessions/s/events",
        "/sessions/{session_id}/artifacts": "/sessions/s/artifacts",
        "/tasks/{task_id}": f"/tasks/{task['task_id']}",
        "/tasks/{task_id}/output/lines": f"/tasks/{task['task_id']}/output/lines",
        "/tasks/{task_id}/output/search": f"/tasks/{task['task_id']}/output/search?q=h",
        "/status": "/status",
        "/workers": "/workers",
        "/queue": "/queue",
        "/healthz": "/healthz",
    }
    for path, asked in paths.items():
        schema = described["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        whole = {**schema, "components": described["components"]}
        jsonschema.Draft202012Validator(whole).validate(await api.get(asked))
    problem = (await api.ask("POST", "/tasks", {"specs": 1})).json
    whole = {"$ref": "#/components/schemas/Problem", "components": described["components"]}
    jsonschema.Draft202012Validator(whole).validate(problem)
