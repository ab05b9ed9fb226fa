"""One request of one person: who they are, which agents there are, and how those answered this very request."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import unquote, urlencode

import msgspec
from aiohttp import web

from webui.contact import REASONS, Contact, Status
from webui.identity import Identity, Role, role_needed
from webui.refusals import Refusal, too_low, unknown_agent
from webui.roster import Roster
from webui.settings import Settings
from webui.upstream import MAX_DETAIL, Agent, Answer, Params, Upstream, segment

#: How long agents may keep a page waiting; a page asks again by itself for those that took longer.
PAGE_PATIENCE_S = 0.4
#: The most that `Prefer: wait=` (RFC 7240 §4.3) or `?wait=` can ask for.
MAX_PATIENCE_S = 30.0

_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,4})(?:$|[,;\s])")


class Visit:
    """What a page's code is given."""

    def __init__(
        self, request: web.Request, identity: Identity, roster: Roster, upstream: Upstream, settings: Settings
    ) -> None:
        self.request = request
        self.identity = identity
        self.settings = settings
        self.upstream = upstream
        self.roster = roster
        self.agents = roster.agents()
        self.query = request.query
        self.patience_s = patience_s(request)
        self.contacts: dict[str, Contact] = {}  #: by agent, of those asked; one that failed once stays failed

    def part(self, name: str) -> str:
        """A part of the path, as its route names it: the `session` of `/a/{agent}/s/{session}`."""
        return self.request.match_info[name]

    def agent(self, name: str | None = None) -> Agent:
        """The agent of this name; without one, that which the path names.

        Raises:
            Refusal: there is none.
        """
        name = self.part("agent") if name is None else name
        found = self.roster.named(name)
        if found is None:
            raise unknown_agent(name)
        return found

    def asked_agents(self) -> tuple[Agent, ...]:
        """Those that `?agent=` names, or all.

        Raises:
            Refusal: it names one that is not there.
        """
        names = dict.fromkeys(self.query.getall("agent", []))
        return tuple(self.agent(name) for name in names if name) or self.agents

    def token_for(self, agent: Agent, method: str = "GET", path: str = "/") -> str | None:
        """The token that goes to an agent for this person, to do this there; `path` is as the agent decodes it.

        Raises:
            Refusal: the viewer's own token may do it, but not for this person.
        """
        needed = role_needed(method, path)
        if self.identity.most_at(agent.name) < needed:
            raise too_low(self.identity.most_at(agent.name), needed)
        return self.identity.token_for(agent.name, agent.token)

    async def ask(
        self,
        agent: Agent,
        path: str,
        params: Params = (),
        *,
        method: str = "GET",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        within_s: float | None = None,
    ) -> Answer:
        """Ask one agent for JSON, within the patience of this visit unless another is given."""
        answer = await self.upstream.ask(
            agent,
            method,
            path,
            token=self.token_for(agent, method, unquote(path)),
            within_s=self.patience_s if within_s is None else within_s,
            params=params,
            body=body,
            headers=headers,
        )
        self.note(answer.contact)
        return answer

    async def ask_each(self, agents: Iterable[Agent], path: str, params: Params = ()) -> list[tuple[Agent, Answer]]:
        """Ask several agents the same, at once."""
        asked = tuple(agents)
        answers = await asyncio.gather(*(self.ask(agent, path, params) for agent in asked))
        return list(zip(asked, answers, strict=True))

    def note(self, contact: Contact) -> None:
        """Keep how it went with an agent; one that failed once stays failed."""
        before = self.contacts.get(contact.agent)
        if before is None or before.status is Status.FRESH:
            self.contacts[contact.agent] = contact

    @property
    def heard(self) -> list[Contact]:
        """How it went with each agent that was asked, in the order of the roster."""
        order = {agent.name: at for at, agent in enumerate(self.agents)}
        return sorted(self.contacts.values(), key=lambda contact: order.get(contact.agent, len(order)))

    def note_incompatible(self, contact: Contact, code: str, reason: str) -> None:
        """Count an agent as one that does not speak as agentd does, whatever else it answers in this visit."""
        changes = {"status": Status.INCOMPATIBLE, "reason_code": code, "reason": reason}
        self.contacts[contact.agent] = msgspec.structs.replace(contact, **changes)

    def note_not_taken(self, answer: Answer) -> None:
        """Count an agent as unknown here because it refused what every agent was asked: nothing of it is shown."""
        if answer.http_status >= 400 and answer.contact.status is Status.FRESH:
            detail = str((answer.problem or {}).get("detail") or REASONS["not_taken"])[:MAX_DETAIL]
            changes = {"status": Status.ERROR, "reason_code": "not_taken", "reason": f"it refused this: {detail}"}
            if answer.http_status == 403:
                changes = {"status": Status.UNAUTHORIZED, "reason_code": "forbidden", "reason": REASONS["forbidden"]}
            self.contacts[answer.contact.agent] = msgspec.structs.replace(answer.contact, **changes)

    @property
    def unknown(self) -> list[Contact]:
        """Those asked that did not answer as they should."""
        return [contact for contact in self.heard if contact.status is not Status.FRESH]

    @property
    def pending(self) -> bool:
        """Whether some have only not answered yet: asking again with more patience may help."""
        return any(each.reason_code == "slow" for each in self.unknown)

    def role_at(self, agent: str) -> Role:
        """What this person may do at an agent, as far as it is known: it decides itself."""
        contact = self.contacts.get(agent)
        told = Role.ADMIN
        if contact is not None and contact.role is not None:
            told = Role.named(contact.role) or Role.VIEWER
        return min(told, self.identity.most_at(agent))

    def require(self, role: Role) -> None:
        """Refuse who may only look.

        Raises:
            Refusal: the identity's role is lower.
        """
        if self.identity.role < role:
            raise too_low(Role(self.identity.role), role)

    def choice(self, name: str, allowed: Sequence[str]) -> str:
        """A parameter that must be one of these; the first where it is absent or empty.

        Raises:
            Refusal: it is another.
        """
        given = self.query.get(name) or allowed[0]
        if given not in allowed:
            raise Refusal(400, "malformed", f"{name}: {given!r} is not one of {', '.join(allowed)}")
        return given

    def limit(self, default: int, most: int = 1000) -> int:
        """The `limit` parameter: 1 to `most`.

        Raises:
            Refusal: it is none.
        """
        given = self.query.get("limit") or str(default)
        if not re.fullmatch(r"[0-9]{1,4}", given) or not 1 <= int(given) <= most:
            raise Refusal(400, "malformed", f"limit: must be 1 to {most}")
        return int(given)

    def passed_on(self, *names: str) -> list[tuple[str, str]]:
        """These parameters as given, the empty ones of forms left out."""
        return [(name, value) for name in names for value in self.query.getall(name, []) if value]

    def url(self, path: str, **params: str | int | None) -> str:
        """An address of the viewer's own: `path` begins with a slash, parameters that are None are left out."""
        query = urlencode([(name, str(value)) for name, value in params.items() if value is not None])
        return f"{self.settings.prefix}{path}{'?' if query else ''}{query}"

    def query_string(self, **changes: str) -> str:
        """The parameters of this page with some added or changed."""
        kept = [(name, value) for name, value in self.query.items() if name not in changes]
        return urlencode([*kept, *changes.items()])

    def here(self, **changes: str | int | None) -> str:
        """This page with some of its parameters changed; None removes one. `cursor` never stays."""
        kept = [(name, value) for name, value in self.query.items() if name not in changes and name != "cursor"]
        kept += [(name, str(value)) for name, value in changes.items() if value is not None]
        return self.settings.prefix + self.request.rel_url.raw_path + ("?" + urlencode(kept) if kept else "")


def patience_s(request: web.Request, default_s: float = PAGE_PATIENCE_S) -> float:
    """How long the client lets agents take, in seconds."""
    match = _WAIT.search(request.headers.get("Prefer", ""))
    given = match[1] if match else request.query.get("wait", "")
    if not re.fullmatch(r"\d{1,4}", given):
        return default_s
    return min(max(float(given), default_s), MAX_PATIENCE_S)


def session_url(agent: str, session_id: str) -> str:
    """Where a session's page is, without the prefix."""
    return f"/a/{segment(agent)}/s/{segment(session_id)}"


def task_url(agent: str, session_id: Any, task_id: Any) -> str:
    """Where a task's page is, without the prefix."""
    return f"{session_url(agent, str(session_id))}/t/{segment(str(task_id))}"


def run_url(agent: str, session_id: Any, run_id: Any) -> str:
    """Where the page of a workflow's run is, without the prefix."""
    return f"{session_url(agent, str(session_id))}/w/{segment(str(run_id))}"
