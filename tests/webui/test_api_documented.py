"""docs/viewer-api.md has every route, header, code and event of the API and of agentd.js."""

from __future__ import annotations

import re
from pathlib import Path

from webui import api
from webui.api.proxy import METHODS, REQUEST_HEADERS, RESPONSE_HEADERS
from webui.contact import REASONS, Contact, Status

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs/viewer-api.md").read_text()
TYPES = (ROOT / "webui/static/agentd.d.ts").read_text()
WORDS = {word for text in re.findall(r"`([^`\n]+)`", DOCS) for word in [text, *re.findall(r"[\w.-]+", text)]}


def test_every_route_is_documented_and_no_other() -> None:
    plain = {(method, re.sub(r":[^}]*", "", path)) for method, path, _ in api.ROUTES}
    proxied = {("GET" if path.endswith("{path}") else method, path) for method, path in plain}
    assert {(method, path) for method, path in re.findall(r"^\| `(\w+) (/api/[^`]*)` \|", DOCS, re.M)} == proxied
    assert set(METHODS) <= WORDS


def test_every_header_that_passes_and_every_reason_is_documented() -> None:
    assert not {*REQUEST_HEADERS, *RESPONSE_HEADERS, *REASONS, *Status, *Contact.__struct_fields__} - WORDS


def test_every_event_method_and_option_of_the_module_is_documented() -> None:
    events = re.search(r"interface TaskEvents \{(.*?)^\}", TYPES, re.S | re.M)
    options = re.search(r"interface ManagerOptions \{(.*?)^\}", TYPES, re.S | re.M)
    methods = re.search(r"class TaskStateManager \{(.*?)^\}", TYPES, re.S | re.M)
    assert events and options and methods
    named = re.findall(r"^  (\w+)\??:", events[1] + options[1], re.M) + re.findall(r"^  (\w+)[(<]", methods[1], re.M)
    assert len(named) > 20
    assert not set(named) - WORDS - {"constructor"}


def test_every_code_that_the_viewer_refuses_the_api_with_is_documented() -> None:
    sources = [*(ROOT / "webui/api").glob("*.py"), ROOT / "webui/doorkeeper.py", ROOT / "webui/refusals.py"]
    codes = {code for path in sources for code in re.findall(r'Refusal\(\s*\d+,\s*"(\w+)"', path.read_text())}
    assert {"csrf", "malformed", "agent_not_found"} <= codes
    assert not codes - WORDS - {"rate_limited"}  # of the login alone
