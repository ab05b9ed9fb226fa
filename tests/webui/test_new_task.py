"""The form that starts a task: made of what the agent says it takes, also of kinds that nobody has invented yet."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.daemon.harness import RealDaemon

from .accessible import wrong_with
from .conftest import viewers
from .inventing_agent import TASK, InventingAgent
from .viewer import RealViewer


@pytest.fixture(scope="module")
def shared_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealViewer, InventingAgent]]:
    place = tmp_path_factory.mktemp("studio")
    with InventingAgent() as agent, viewers(place) as make_viewer:
        yield make_viewer({"muse": agent.url}, *agent.flags(place, "muse")).start().log_in(), agent


@pytest.fixture
def inventor(shared_studio: tuple[RealViewer, InventingAgent]) -> InventingAgent:
    """An agent with invented kinds, of which nothing was asked yet."""
    shared_studio[1].begin()
    return shared_studio[1]


@pytest.fixture
def studio(shared_studio: tuple[RealViewer, InventingAgent], inventor: InventingAgent) -> RealViewer:
    """A viewer over that agent."""
    return shared_studio[0]


def fields_in(page: str) -> dict[str, str]:
    """The texts of a form's fields, by name, as a browser has them."""
    found = dict.fromkeys(re.findall(r'name="(field:[^"]+)"', page), "")
    for tag in re.findall(r"<input[^>]*>", page):
        name, value = re.search(r'name="([^"]+)"', tag), re.search(r'value="([^"]*)"', tag)
        if name and ("checked" in tag or 'type="checkbox"' not in tag):
            found[name[1]] = html.unescape(value[1]) if value else ""
    for name, text in re.findall(r'<textarea[^>]*name="([^"]+)"[^>]*>\n([^<]*)</textarea>', page):
        found[name] = html.unescape(text)
    return found


def test_a_form_starts_a_task_and_leads_to_it(viewer: RealViewer, daemon: RealDaemon) -> None:
    page = viewer.html("/new?session=build")
    assert fields_in(page)["field:session_id"] == "build"
    fields = {"field:session_id": "build", "field:spec.command": "echo $GREETING", "field:spec.env": "GREETING=hi"}
    fields |= {"field:labels": "a=1\r\nb=2", "field:timeout_s": "60", "field:retry.max": "2", "field:name": "greet"}
    answer = viewer.post("/new", agent="one", kind="shell", key="k1", **fields)
    assert answer.status == 303, answer.body
    task_id = answer.headers["location"].rpartition("/")[2]
    assert answer.headers["location"] == f"/a/one/s/build/t/{task_id}"
    task = daemon.wait(task_id)
    assert (task["state"], task["name"], task["labels"], task["timeout_s"]) == (
        "completed",
        "greet",
        {"a": "1", "b": "2"},
        60,
    )
    assert (task["retry"]["max"], task["trigger"]["type"]) == (2, "manual")
    assert daemon.request("GET", f"/tasks/{task_id}/output").body == b"hi\n"


def test_the_same_form_sent_twice_makes_one_task(viewer: RealViewer, daemon: RealDaemon) -> None:
    form = {"agent": "one", "kind": "shell", "key": "k2", "field:spec.command": "true"}
    first, again = viewer.post("/new", **form), viewer.post("/new", **form)
    assert first.headers["location"] == again.headers["location"]
    assert len(daemon.get("/tasks")["data"]) == 1


def test_the_agents_that_there_are_stand_to_choose_from(viewer: RealViewer) -> None:
    form = viewer.html("/new?agent=one&kind=agent")
    listed = re.search(r'<select[^>]*name="field:spec.agent".*?</select>', form, re.DOTALL)
    assert listed and re.findall(r"<option[^>]*>(\w+)<", listed.group()) == ["claude", "codex", "opencode"], form


def test_a_form_changed_after_it_was_done_is_explained_and_then_makes_another(
    viewer: RealViewer, daemon: RealDaemon
) -> None:
    form = {"agent": "one", "kind": "shell", "key": "k3", "field:session_id": "build"}
    assert viewer.post("/new", **form, **{"field:spec.command": "echo 1"}).status == 303
    conflict = viewer.post("/new", **form, **{"field:spec.command": "echo 2"})
    assert conflict.status == 409
    fields = fields_in(conflict.body.decode())
    assert "An earlier try of this form was done" in conflict.body.decode()
    assert fields["field:spec.command"] == "echo 2"
    fields.pop("csrf")
    assert viewer.post("/new", **fields).status == 303
    assert len(daemon.get("/tasks")["data"]) == 2


def test_what_the_agent_refuses_stands_beside_its_field_and_nothing_typed_is_lost(viewer: RealViewer) -> None:
    fields = {"field:spec.command": "make", "field:priority": "5000", "field:session_id": "../x", "field:name": "n"}
    answer = viewer.post("/new", agent="one", kind="shell", key="k4", **fields)
    page = answer.body.decode()
    assert answer.status == 422
    assert 'id="wrong-priority"' in page
    found = fields_in(page)
    assert {name: found[name] for name in fields} == fields


def test_what_is_no_value_is_said_before_anything_is_sent(studio: RealViewer, inventor: InventingAgent) -> None:
    wrong = {
        "field:spec.verses": "two",
        "field:spec.glossary": "novalue",
        "field:spec.extra": "{",
        "field:stars": "1.5",
    }
    answer = studio.post("/new", agent="muse", kind="poem", **wrong, **{"field:spec.mood": "angry"})
    page = answer.body.decode()
    assert answer.status == 422
    for field, text in (
        ("spec.prompt", "is required"),
        ("spec.mood", "must be one of glad, sad, 7"),
        ("spec.verses", "must be a whole number"),
        ("spec.glossary", "line 1: write KEY=VALUE"),
        ("spec.extra", "must be JSON"),
        ("stars", "must be a whole number"),
    ):
        assert re.search(rf'id="wrong-{re.escape(field)}">{re.escape(text)}', page), field
    assert {name: fields_in(page)[name] for name in wrong} == wrong
    assert inventor.taken == []


def test_a_kind_that_nobody_has_invented_yet_has_its_form(studio: RealViewer, inventor: InventingAgent) -> None:
    page = studio.html("/new?kind=poem")
    assert "A dance" in page
    assert "What it is &lt;b&gt;about&lt;/b&gt;." in page
    assert fields_in(page)["field:spec.rhymes"] == ""
    fields = {
        "field:spec.prompt": "the sea\r\nat night",
        "field:spec.mood": "7",
        "field:spec.verses": "4",
        "field:spec.warmth": "0.25",
        "field:spec.words": "salt\r\nfoam\r\n",
        "field:spec.glossary": "foam=white=water",
        "field:spec.layout.width": "40",
        "field:spec.extra": '{"deep": [1, null]}',
        "field:stars": "5",
    }
    answer = studio.post("/new", agent="muse", kind="poem", key="k5", **fields)
    assert answer.headers["location"] == "/a/muse/s/s1/t/t1"
    spec = {
        "prompt": "the sea\nat night",
        "mood": 7,
        "verses": 4,
        "warmth": 0.25,
        "rhymes": False,
        "words": ["salt", "foam"],
        "glossary": {"foam": "white=water"},
        "layout": {"width": 40},
        "extra": {"deep": [1, None]},
    }
    body = {"kind": "poem", "spec": spec, "stars": 5, "trigger": {"type": "manual"}}
    assert inventor.taken == [("/tasks", "k5", body)]


def test_a_kind_that_is_not_described_is_asked_for_as_json(studio: RealViewer, inventor: InventingAgent) -> None:
    assert fields_in(studio.html("/new?kind=opera"))["field:spec"] == ""
    studio.post("/new", agent="muse", kind="opera", **{"field:spec": '{"acts": 3}'})
    assert inventor.taken[0][2]["spec"] == {"acts": 3}


def test_a_task_is_run_again_from_a_form_that_has_all_of_it(viewer: RealViewer, daemon: RealDaemon) -> None:
    spec = {"argv": ["sh", "-c", "echo 1\necho 2", ""], "env": {"A": "b=c", "M": "1\n2"}, "limits": {"files": 64}}
    body = {"kind": "shell", "spec": spec, "session_id": "build", "name": "twice", "labels": {"x": "y"}, "priority": 3}
    first = daemon.request("POST", "/tasks", body).json
    fields = fields_in(viewer.html(f"/new?agent=one&from={first['task_id']}"))
    fields.pop("csrf")
    answer = viewer.post("/new", **fields)
    assert answer.status == 303, answer.body
    again = daemon.wait(answer.headers["location"].rpartition("/")[2])
    assert again["task_id"] != first["task_id"]
    for name in ("session_id", "name", "labels", "priority", "queue"):
        assert again[name] == first[name], name
    assert {name: value for name, value in again["spec"].items() if value} == spec


def test_a_value_that_the_description_does_not_know_is_kept_as_json(
    studio: RealViewer, inventor: InventingAgent
) -> None:
    inventor.answers["/tasks/t1"] = {**TASK, "spec": {"prompt": "x", "mood": "sad", "invented": True}}
    fields = fields_in(studio.html("/new?from=t1"))
    assert '"invented": true' in fields["field:spec"]
    studio.post("/new", **{name: value for name, value in fields.items() if name != "csrf"})
    assert inventor.taken[0][2]["spec"] == {"prompt": "x", "mood": "sad", "invented": True}


def test_an_agent_that_hangs_up_leaves_it_unknown_and_trying_again_safe(
    studio: RealViewer, inventor: InventingAgent
) -> None:
    inventor.answer = None
    form = {"agent": "muse", "kind": "dance", "field:spec.steps": "8"}
    answer = studio.post("/new", **form, key="k6")
    page = answer.body.decode()
    assert answer.status == 502
    assert "It is unknown whether this was done" in page
    assert "done once however often it is sent" in page
    fields = fields_in(page)
    assert (fields["key"], fields["field:spec.steps"]) == ("k6", "8")
    inventor.answer = (201, TASK)
    fields.pop("csrf")
    assert studio.post("/new", **fields).status == 303
    assert [key for _, key, _ in inventor.taken] == ["k6", "k6"]


@pytest.mark.parametrize(
    ("status", "value", "says"),
    [
        (507, {"code": "storage_full", "detail": "the disk is full"}, "Make room"),
        (503, {"code": "draining", "detail": "it is stopping"}, "try again once it runs"),
        (403, {"code": "forbidden", "detail": "a viewer may not"}, "Log in with a token that may do this"),
        (418, {"code": "teapot", "detail": "never heard of <i>"}, "never heard of &lt;i&gt;"),
        (201, {"unexpected": 1}, "It is unknown whether this was done"),
        (201, ["list"], "It is unknown whether this was done"),
        (500, {"code": "internal", "detail": "oops"}, "It is unknown whether this was done"),
    ],
)
def test_each_refusal_says_what_to_do(
    studio: RealViewer, inventor: InventingAgent, status: int, value: object, says: str
) -> None:
    inventor.answer = (status, value)
    answer = studio.post("/new", agent="muse", kind="dance", **{"field:spec.steps": "8"})
    assert answer.status == (status if 400 <= status != 500 else 502)
    assert says in answer.body.decode()
    assert fields_in(answer.body.decode())["field:spec.steps"] == "8"


@pytest.mark.parametrize(
    "described",
    [
        {"openapi": "3.1.0"},
        {"openapi": "3.1.0", "x-agentd-kinds": [], "paths": {"/tasks": None}},
        {"openapi": "3.1.0", "x-agentd-kinds": {"poem": {"title": 7, "spec": {"$ref": "#/nowhere"}}, "x": 3}},
        {"openapi": "3.1.0", "x-agentd-kinds": {"poem": {"spec": {"properties": {"a": 5, "b": {"enum": 1}}}}}},
        {"openapi": "3.1.0", "x-agentd-kinds": {"poem": {"spec": {"$ref": "#/x-agentd-kinds/poem/spec"}}}},
        {
            "openapi": "3.1.0",
            "x-agentd-kinds": {
                "poem": {"spec": {"type": "object", "properties": {"me": {"$ref": "#/x-agentd-kinds/poem/spec"}}}}
            },
        },
    ],
)
def test_an_odd_description_still_gives_a_form(
    studio: RealViewer, inventor: InventingAgent, described: dict[str, object]
) -> None:
    inventor.answers["/openapi.json"] = described
    assert 'name="field:spec' in studio.html("/new?kind=poem")


def test_without_an_answer_of_the_agent_the_page_says_so_and_a_sent_form_is_not_lost(
    studio: RealViewer, inventor: InventingAgent
) -> None:
    del inventor.answers["/openapi.json"]
    assert "muse" in studio.html("/new")
    answer = studio.post("/new", agent="muse", kind="dance", **{"field:spec.steps": "8"})
    page = answer.body.decode()
    assert "Nothing was sent; try again." in page
    assert fields_in(page)["field:spec.steps"] == "8"
    assert inventor.taken == []


def test_a_session_is_made_by_a_form_of_what_the_agent_takes(viewer: RealViewer, daemon: RealDaemon) -> None:
    assert "field:policy.max_parallel" in viewer.html("/sessions/new")
    fields = {"field:session_id": "lab", "field:title": "The lab", "field:policy.max_parallel": "4"}
    answer = viewer.post("/sessions/new", agent="one", key="k7", **fields)
    assert answer.headers["location"] == "/a/one/s/lab"
    session = daemon.get("/sessions/lab")
    assert (session["title"], session["policy"]["max_parallel"]) == ("The lab", 4)
    taken = viewer.post("/sessions/new", agent="one", key="k8", **fields)
    assert taken.status == 409
    assert "start a task in the session that is there" in taken.body.decode()


@pytest.mark.parametrize(
    ("kind", "first"),
    [("shell", ["command"]), ("agent", ["agent", "prompt"]), ("docker", ["operation", "image", "command"])],
)
def test_what_most_people_need_of_a_real_kind_is_asked_first(
    viewer: RealViewer, page: Page, kind: str, first: list[str]
) -> None:
    page.goto(f"{viewer.url}/new?kind={kind}")
    seen = page.locator("#new-task fieldset > .field :is(input, select, textarea)")
    assert seen.evaluate_all("all => all.map(each => each.name)") == [f"field:spec.{name}" for name in first]
    assert page.locator(f"[name='field:spec.{first[-1]}']").evaluate("field => field.tagName") == "TEXTAREA"
    assert wrong_with(page) == []


def test_a_container_is_asked_for_in_words_that_its_kind_takes(viewer: RealViewer, daemon: RealDaemon) -> None:
    fields = {"field:spec.operation": "run", "field:spec.image": "busybox", "field:spec.command": 'echo "two words"'}
    answer = viewer.post("/new", agent="one", kind="docker", **fields, **{"field:session_id": "s"})
    assert answer.status == 303, answer.body
    task = daemon.get("/tasks?kind=docker")["data"][0]
    assert (task["spec"]["image"], task["spec"]["command"]) == ("busybox", 'echo "two words"')
    assert "echo &#34;two words&#34;</textarea>" in viewer.html(f"/new?agent=one&from={task['task_id']}")
