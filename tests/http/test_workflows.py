"""Workflows over HTTP: every route, its refusals, and what a viewer needs to draw a run."""

from __future__ import annotations

from typing import Any

import pytest

from agentd.engines.local import system
from agentd.http.tokens import Role
from agentd.kinds.sandbox import options
from agentd.model.run_views import SOURCE_BYTES

from .talk import Api, until

FACTS = system.found(options)

STEPS = """
name: two
inputs: {n: {default: 1}}
steps:
  - {id: a, run: 'echo "v=$N" >> "$AGENTD_OUTPUT"', env: {N: "${{ inputs.n }}"}, outputs: [v]}
  - {id: b, needs: [a], matrix: {x: [1, 2]}, if: steps.a.outputs.v != 3, run: 'test "$X" != "$V"',
     env: {X: "${{ matrix.x }}", V: "${{ steps.a.outputs.v }}"}}
"""
LONG = "steps: [{id: a, run: sleep 60}, {id: b, needs: [a], run: 'true'}]"


@pytest.fixture
async def made(api: Api) -> Api:
    """With a session."""
    assert (await api.ask("POST", "/sessions", {"session_id": "s", "policy": {"max_parallel": 2}})).status == 201
    return api


async def run(api: Api, source: str = STEPS, **inputs: object) -> dict[str, Any]:
    answer = await api.ask("POST", "/sessions/s/workflow", {"source": source, "inputs": inputs})
    assert answer.status == 201, answer
    assert answer.headers["Location"] == f"/sessions/s/workflows/{answer.json['run_id']}"
    found: dict[str, Any] = answer.json
    return found


async def ended(api: Api, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def over() -> bool:
        found.update(await api.get(f"/sessions/s/workflows/{run_id}"))
        return bool(found["state"] != "running")

    await until(over)
    return found


async def test_a_run_shows_all_that_its_graph_needs(made: Api) -> None:
    begun = await run(made, n=2)
    assert (begun["state"], begun["inputs"], begun["by"], begun["source"]) == ("running", {"n": 2}, "token", STEPS)
    found = await ended(made, begun["run_id"])
    assert (found["state"], found["where"]) == ("failed", ["b[x=2]"])
    drawn = [(each["id"], each["step"], each["needs"], each["state"], each["outputs"]) for each in found["steps"]]
    assert drawn == [
        ("a", "a", [], "completed", {"v": "2"}),
        ("b[x=1]", "b", ["a"], "completed", {}),
        ("b[x=2]", "b", ["a"], "failed", {}),
    ]
    assert [(each["matrix"], each["line"], each["kind"]) for each in found["steps"][1:]] == [
        ({"x": 1}, 6, "shell"),
        ({"x": 2}, 6, "shell"),
    ]
    task = await made.get(f"/tasks/{found['steps'][0]['task_id']}")
    assert task["workflow"] == {"run_id": begun["run_id"], "step": "a"}
    assert task["trigger"] == {"type": "workflow", "source": "two"}
    assert await made.get(f"/workflows/{begun['run_id']}") == found


async def test_runs_are_listed_newest_first_by_page_and_state_without_their_steps(made: Api) -> None:
    runs = [(await run(made, n=n))["run_id"] for n in (3, 3, 2)]
    for each in runs:
        await ended(made, each)
    page = await made.get("/sessions/s/workflows?limit=2")
    assert [each["run_id"] for each in page["data"]] == [runs[2], runs[1]]
    assert "steps" not in page["data"][0] and "source" not in page["data"][0]
    rest = await made.get(f"/sessions/s/workflows?limit=2&cursor={page['next']}")
    assert [each["run_id"] for each in rest["data"]] == [runs[0]] and rest["next"] is None
    failed = await made.get("/sessions/s/workflows?state=failed")
    assert [each["run_id"] for each in failed["data"]] == [runs[2]]


async def test_what_is_wrong_with_a_file_is_told_with_line_and_column_and_nothing_starts(made: Api) -> None:
    source = "steps:\n  - {id: a, run: x, neds: [b]}\n  - {id: b, needs: [c], run: x}\n"
    for path in ("/workflows/validate", "/sessions/s/workflow"):
        answer = await made.ask("POST", path, {"source": source})
        assert (answer.status, answer.code) == (422, "workflow_invalid")
        assert [(each["line"], each["column"], each["field"]) for each in answer.json["errors"]] == [
            (2, 21, "steps[0].neds"),
            (3, 21, "steps[1].needs[0]"),
        ]
        assert "line 2, column 21" in answer.json["detail"]
    assert (await made.get("/sessions/s/workflows"))["data"] == []
    assert (await made.get("/sessions/s"))["tasks"] == []


async def test_a_file_that_can_be_run_is_described(made: Api) -> None:
    answer = await made.ask("POST", "/workflows/validate", {"source": STEPS})
    assert answer.status == 200
    assert answer.json["name"] == "two"
    assert answer.json["inputs"] == [{"name": "n", "default": 1, "required": False, "description": None}]
    assert [(each["id"], each["needs"], each["state"]) for each in answer.json["steps"]] == [
        ("a", [], "waiting"),
        ("b[x=1]", ["a"], "waiting"),
        ("b[x=2]", ["a"], "waiting"),
    ]


@pytest.mark.filterwarnings("ignore:Sending a large body")
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "source"),
        ({"source": 1}, "source"),
        ({"source": STEPS, "inputs": {"m": 1}}, "inputs.m"),
        ({"source": STEPS, "inputs": {"n": "many"}}, "inputs.n"),
        ({"source": STEPS, "inputs": {"n": [1]}}, "inputs[...]"),
        ({"source": STEPS, "input": {}}, "input"),
        ({"source": "x" * (SOURCE_BYTES + 1)}, "source"),
    ],
)
async def test_a_bad_request_names_the_field(made: Api, body: dict[str, Any], field: str) -> None:
    answer = await made.ask("POST", "/sessions/s/workflow", body)
    assert (answer.status, answer.code) == (422, "invalid")
    assert field in answer.fields, answer.fields


@pytest.mark.filterwarnings("ignore:Sending a large body")
async def test_a_source_may_be_as_large_as_a_workflow_and_a_body_no_larger(made: Api) -> None:
    filled = STEPS + "# " + "x" * (SOURCE_BYTES - len(STEPS) - 2)
    assert (await ended(made, (await run(made, filled, n=3))["run_id"]))["source"] == filled
    answer = await made.ask("POST", "/sessions/s/workflow", {"source": "x" * (3 * SOURCE_BYTES)})
    assert (answer.status, answer.code) == (413, "too_large")


async def test_what_is_not_there_is_404(made: Api) -> None:
    nobody = "0" * 14
    for path, code in [
        (f"/sessions/s/workflows/{nobody}", "run_not_found"),
        (f"/workflows/{nobody}", "run_not_found"),
        ("/workflows/x", "run_not_found"),
        (f"/sessions/nope/workflows/{nobody}", "session_not_found"),
        ("/sessions/nope/workflows", "session_not_found"),
    ]:
        answer = await made.ask("GET", path)
        assert (answer.status, answer.code) == (404, code), path
    for verb in ("cancel", "resume"):
        assert (await made.ask("POST", f"/sessions/s/workflows/{nobody}/{verb}")).code == "run_not_found"
    assert (await made.ask("POST", "/sessions/nope/workflow", {"source": STEPS})).code == "session_not_found"


async def test_a_run_is_cancelled_whole_and_only_an_ended_one_resumes(made: Api) -> None:
    begun = await run(made, LONG)
    path = f"/sessions/s/workflows/{begun['run_id']}"
    refused = await made.ask("POST", path + "/resume")
    assert (refused.status, refused.code) == (409, "invalid_transition")
    answer = await made.ask("POST", path + "/cancel")
    assert answer.status in (200, 202) and answer.json["cancel_requested_at"] is not None
    found = await ended(made, begun["run_id"])
    assert found["state"] == "cancelled"
    assert [each["state"] for each in found["steps"]] == ["cancelled", "skipped"]
    refused = await made.ask("POST", path + "/cancel")
    assert (refused.status, refused.code) == (409, "invalid_transition")
    again = await made.ask("POST", path + "/resume")
    assert (again.status, again.json["state"]) == (200, "running")
    assert (await made.ask("POST", "/sessions/s/cancel")).status in (200, 202)
    assert (await ended(made, begun["run_id"]))["state"] == "cancelled"


async def test_a_key_makes_a_run_safe_to_repeat(made: Api) -> None:
    key = {"Idempotency-Key": "k"}
    first, again = [await made.ask("POST", "/sessions/s/workflow", {"source": STEPS}, headers=key) for _ in range(2)]
    assert first.json["run_id"] == again.json["run_id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    other = await made.ask("POST", "/sessions/s/workflow", {"source": LONG}, headers=key)
    assert (other.status, other.code) == (409, "idempotency_conflict")
    await ended(made, first.json["run_id"])


async def test_the_events_of_a_run_come_with_those_of_its_tasks(made: Api) -> None:
    begun = await run(made, n=3)
    async with made.stream("/sessions/s/events") as events:
        seen = await events.until("run.ended")
    types = [event.type for event in seen if event.type.startswith(("run.", "task.created", "task.finished"))]
    assert types == ["run.created", "task.created", "task.finished", "run.step_ended", "run.ended"]
    step = next(event.json for event in seen if event.type == "run.step_ended")
    assert (step["run_id"], step["step"], step["outputs"]) == (begun["run_id"], "a", {"v": "3"})


@pytest.mark.skipif(not FACTS.sandbox, reason=FACTS.sandbox_problem)
async def test_a_step_in_a_sandbox_hands_on_as_any_other(made: Api) -> None:
    line = "{id: a, run: 'echo v=1 >> \"$AGENTD_OUTPUT\"', sandbox: bubblewrap, outputs: [v]}"
    found = await ended(made, (await run(made, f"steps: [{line}]"))["run_id"])
    assert (found["state"], found["steps"][0]["outputs"]) == ("completed", {"v": "1"}), found


async def test_a_step_reads_runs_of_its_session_with_its_own_token_and_changes_none(made: Api) -> None:
    script = """
steps:
  - id: a
    run: |
      ask() { curl -s -o /dev/null -w '%{http_code} ' -H "Authorization: Bearer $AGENTD_TOKEN" "$@"; }
      ask "$AGENTD_URL/sessions/$AGENTD_SESSION_ID/workflows"
      ask "$AGENTD_URL/sessions/other/workflows"
      ask -X POST "$AGENTD_URL/sessions/$AGENTD_SESSION_ID/workflows/00000000000000/cancel"
"""
    found = await ended(made, (await run(made, script))["run_id"])
    [step] = found["steps"]
    output = await made.ask("GET", f"/tasks/{step['task_id']}/output")
    assert output.body.split() == [b"200", b"403", b"403"]


def test_who_may_do_what_is_as_for_tasks() -> None:
    from agentd.http.workflows import ROUTES

    roles = {(route.method, route.path.rpartition("/")[2]): (route.role, route.for_tasks) for route in ROUTES}
    assert roles == {
        ("POST", "validate"): (Role.OPERATOR, False),
        ("POST", "workflow"): (Role.OPERATOR, False),
        ("GET", "workflows"): (Role.VIEWER, True),
        ("GET", "{run_id}"): (Role.VIEWER, True),
        ("POST", "cancel"): (Role.OPERATOR, False),
        ("POST", "resume"): (Role.OPERATOR, False),
    }
