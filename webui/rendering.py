"""A page's model as HTML or as JSON: one model, two looks, decided here and nowhere else."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import jinja2
import msgspec
from aiohttp import web

from webui import words
from webui.assets import Assets
from webui.commands import as_agentd, as_curl
from webui.identity import Role, Seals
from webui.refusals import Refusal
from webui.upstream import segment
from webui.visit import Visit, run_url, session_url, task_url


class Page(msgspec.Struct, kw_only=True):
    """What a page shows: a template and its model; the model alone is the page in JSON."""

    template: str
    title: str
    model: dict[str, Any]
    extra: dict[str, Any] = {}  #: for the template alone: choices of forms, geometry of drawings
    status: int = 200
    live: dict[str, str] | None = {}  #: parameters of this page's stream of ticks; None: it does not change


class Renderer:
    """Makes answers out of pages and refusals."""

    def __init__(self, assets: Assets, seals: Seals) -> None:
        self._seals = seals
        self._jinja = jinja2.Environment(
            loader=jinja2.PackageLoader("webui"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._jinja.filters.update(
            duration=words.duration,
            size=words.size,
            usd=words.usd,
            percent=words.percent,
            counted=words.counted,
            coded=words.coded,
            pretty=_pretty,
            segment=segment,
            path=_path,
        )
        self._jinja.globals.update(
            asset=assets.url,
            look=words.look,
            command_of=words.command_of,
            cause_of=words.cause_of,
            ACTIVE=words.ACTIVE,
            TERMINAL=words.TERMINAL,
            as_curl=as_curl,
            as_agentd=as_agentd,
            new_key=secrets.token_urlsafe,  # for an Idempotency-Key: one for each time that a form is shown
            Role=Role,
        )

    def page(self, visit: Visit, page: Page) -> web.Response:
        """The answer to a visit; 503 for `?strict=1` when an agent is unknown."""
        partial = bool(visit.unknown)
        status = 503 if partial and visit.query.get("strict") == "1" else page.status
        if wants_json(visit.request):
            body = {**page.model, "agents": visit.heard, "partial": partial}
            return json_answer(body, status)
        now = datetime.now(UTC)
        text = self._jinja.get_template(page.template).render(
            **page.model,
            **page.extra,
            title=page.title,
            visit=visit,
            live=page.live,
            csrf=self._seals.csrf(visit.identity),
            when=lambda time: words.when(time, now),
            url=visit.url,
            here=visit.here,
            session_url=lambda agent, sid: visit.url(session_url(agent, sid)),
            run_url=lambda agent, sid, run: visit.url(run_url(agent, sid, run)),
            task_url=lambda agent, sid, tid: visit.url(task_url(agent, sid, tid)),
        )
        return web.Response(text=text, status=status, content_type="text/html")

    def bare(self, template: str, status: int = 200, **model: Any) -> web.Response:
        """A page for someone who is not logged in."""
        text = self._jinja.get_template(template).render(**model)
        return web.Response(text=text, status=status, content_type="text/html")

    def refusal(self, request: web.Request, refusal: Refusal, prefix: str) -> web.Response:
        """The answer to what is refused."""
        if wants_json(request) or request.path.startswith("/api/"):
            return json_answer(refusal.problem(), refusal.status, "application/problem+json")
        return self.bare(
            "refusal.html", refusal.status, refusal=refusal, prefix=prefix, title=refusal.problem()["title"]
        )


def wants_json(request: web.Request) -> bool:
    """Whether the client asks for JSON rather than for a page, by Accept or by `?format=json`."""
    if request.query.get("format") == "json":
        return True
    accept = request.headers.get("Accept", "")
    return "application/json" in accept and "text/html" not in accept


def json_answer(
    value: object, status: int = 200, content_type: str = "application/json", headers: Mapping[str, str] | None = None
) -> web.Response:
    """A value as JSON."""
    return web.Response(body=msgspec.json.encode(value), status=status, content_type=content_type, headers=headers)


def _path(text: str) -> str:
    """A path with slashes, each of its parts quoted for an address."""
    return "/".join(map(segment, text.split("/")))


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
