"""A form as it stands: what is typed in it, and what is wrong with that; nothing typed is ever lost."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from webui.actions.outcomes import SAFE_BY_KEY, errors_of, is_known_not_done, reason_of, remedy_of, status_of
from webui.refusals import Refusal
from webui.rendering import Page
from webui.schema_form import Field
from webui.typed import Typed, owner_of, typed_in, values_of
from webui.upstream import Agent, Answer
from webui.visit import Visit


def new_key() -> str:
    """An Idempotency-Key for one thing that a person may make."""
    return secrets.token_urlsafe()


class Filled(msgspec.Struct, kw_only=True):
    """What a form shows beside its fields."""

    key: str = msgspec.field(default_factory=new_key)  #: goes along as Idempotency-Key
    typed: Typed = msgspec.field(default_factory=Typed)
    errors: dict[str, str] = {}  #: by field
    notices: list[str] = []
    status: int = 200

    @classmethod
    def of(cls, form: Mapping[str, Any]) -> Filled:
        """The form that was sent."""
        return cls(key=str(form.get("key") or "") or new_key(), typed=typed_in(form.items()))

    @property
    def model(self) -> dict[str, Any]:
        """What the page in JSON has of it."""
        return {"texts": self.typed.texts, "errors": self.errors, "notices": self.notices}

    def values(self, fields: Sequence[Field]) -> dict[str, Any] | None:
        """What was typed; None, and the errors say why, when some of it is no value."""
        found, self.errors = values_of(fields, self.typed)
        if self.errors:
            self.status = 422
            return None
        return found

    def page(
        self,
        template: str,
        title: str,
        fields: Sequence[Field],
        model: Mapping[str, Any],
        *,
        first: Collection[str] = (),
        **extra: Any,
    ) -> Page:
        """The page of the form as it stands.

        Args:
            first: names of fields that most people need; the others are rare.
        """
        parts: dict[str, list[Field]] = {"first": [], "rare": []}
        for field in fields:
            parts["first" if field.name in first else "rare"].append(field)
        return Page(
            template=template,
            title=title,
            model={**model, "fields": fields, **self.model},
            extra={"filled": self, **parts, **extra},
            status=self.status,
            live=None,
        )

    def refused(self, visit: Visit, fields: Sequence[Field], answer: Answer) -> None:
        """Take in what the agent has against it, each error beside its field; or that nobody knows what it did."""
        self.status = status_of(answer)
        code, reason = reason_of(visit, answer)
        if not is_known_not_done(answer):
            self.notices = [f"It is unknown whether this was done: {reason}.", SAFE_BY_KEY]
            return
        for path, message in errors_of(answer):
            owner = owner_of(fields, path)
            if owner is not None:
                self.errors[owner] = message
            else:
                self.notices.append(f"{path}: {message}" if path else message)
        if not self.errors and not self.notices:
            self.notices = [text for text in (f"Not done: {reason}.", remedy_of(code, answer)) if text]
        if code == "idempotency_conflict":
            self.key = new_key()  # that one is used up: what is sent now is another


def agent_for(visit: Visit, name: object) -> Agent | None:
    """The agent that a form is for: the one it names, else the first; None when there is none at all.

    Raises:
        Refusal: it names one that is not there.
    """
    return visit.agent(str(name)) if name else next(iter(visit.agents), None)


def agent_of(visit: Visit, form: Mapping[str, Any]) -> Agent:
    """The agent that a form was sent for.

    Raises:
        Refusal: there is none.
    """
    found = agent_for(visit, form.get("agent"))
    if found is None:
        raise Refusal(422, "invalid", "agent: there is none", hint="The agents page says how to get one.")
    return found
