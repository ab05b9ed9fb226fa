"""What can be asked about a thing that was just made, as OpenAPI links: the way from one answer to the next request."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from agentd.http.routing import Route

_NAME = re.compile(r"{(\w+)\*?}")


def links_of(route: Route, answer: Any, routes: Iterable[Route]) -> dict[str, Any]:
    """A link to every operation whose path takes a field of the answer, and nothing that is not known by then."""
    made = {field.encode_name for field in msgspec.structs.fields(answer)}
    known = {name: f"$request.path.{name}" for name in names_in(route.path)}
    known |= {name: f"$response.body#/{name}" for name in made}
    return {
        target.name: {"operationId": target.name, "parameters": {name: known[name] for name in taken}}
        for target in routes
        if (taken := names_in(target.path)) and known.keys() >= set(taken) and made & set(taken)
    }


def names_in(path: str) -> list[str]:
    """The names in the braces of a route's path."""
    return _NAME.findall(path)
