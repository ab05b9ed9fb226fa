"""What an edit of metadata.json by hand asks for. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict, replace

from agentd.errors import FieldError, Invalid
from agentd.model.reading import UNREADABLE, prepared, read
from agentd.model.requests import PolicyChanges, SessionPatch, plain
from agentd.model.session import Budget, Keep, Policy, Retention, Session, SessionChanges
from agentd.model.task import Value
from agentd.store import layout
from agentd.store.views import metadata_fields

prepared(SessionPatch)

MAX_BYTES = 1 << 20

EDITABLE = ("title", "labels", "policy", "archived")
#: The daemon moves these on with every event, so an editor may have been opened on earlier values.
_MOVING = ("updated_at", "seq")


def edited(current: Session, text: bytes) -> SessionChanges | None:
    """The changes that the text of metadata.json makes to the session as it is; None when it makes none.

    Title, labels, policy and archived may differ, within the limits of the API; one that is left out stays. All other
    fields must be there and equal (`updated_at` and `seq` may be those of an earlier moment).

    Raises:
        Invalid: not such a text; each wrong field is named.
    """
    found = _object(text)
    was = metadata_fields(current)
    wrong = [*_strangers(was, found), *_fixed(was, found)]
    if wrong:
        raise Invalid("; ".join(f"{field}: {message}" for field, message in wrong), errors=wrong)
    patch = _patch({name: found[name] for name in EDITABLE if name in found})
    wanted: dict[str, Any] = {}
    for name in EDITABLE:
        value = getattr(patch, name)
        if isinstance(value, PolicyChanges):
            given = {k: v for k, v in asdict(value).items() if v is not UNSET}
            if isinstance(value.retention, Retention):
                given["retention"] = plain(value.retention, Retention)
            if isinstance(value.budget, Budget):
                given["budget"] = plain(value.budget, Budget)
            value = replace(current.policy, **given)
        if value is not UNSET and value != getattr(current, name):
            wanted[name] = value
    return SessionChanges(**wanted) if wanted else None


class _Seen(Value, frozen=True, kw_only=True):
    seq: int


def base_of(text: bytes, sessions: Sequence[Session]) -> Session:
    """Which of the sessions an editor was opened on, by the `seq` in the text; the last, if that tells nothing."""
    try:
        seq = read(text, _Seen).seq
    except msgspec.MsgspecError:
        return sessions[-1]
    return next((each for each in sessions if each.seq == seq), sessions[-1])


def rebased(changes: SessionChanges, base: Session, head: Session) -> SessionChanges | None:
    """What is left of an edit that was made of `base`, for the session as it is by now; None when nothing is.

    Of a policy, only the fields that the edit set: the others may have been changed since.
    """
    wanted: dict[str, Any] = {}
    for name, value in asdict(changes).items():
        if isinstance(value, Policy):
            given = {k: v for k, v in asdict(value).items() if v != getattr(base.policy, k)}
            value = replace(head.policy, **given)
        if value is not UNSET and value != getattr(head, name):
            wanted[name] = value
    return SessionChanges(**wanted) if wanted else None


def _object(text: bytes) -> dict[str, Any]:
    if len(text) > MAX_BYTES:
        raise Invalid.field(layout.METADATA, f"is larger than {MAX_BYTES} bytes")
    try:
        found = msgspec.json.decode(text)
    except UNREADABLE as error:
        raise Invalid.field(layout.METADATA, f"is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Invalid.field(layout.METADATA, "must be a JSON object")
    return found


def _strangers(was: dict[str, Any], found: dict[str, Any]) -> list[FieldError]:
    """Names nobody knows, with the one that may have been meant."""
    wrong = _unknown(found, tuple(was), "")
    policy = found.get("policy")
    if isinstance(policy, dict):
        wrong += _unknown(policy, Policy.__struct_fields__, "policy.")
        if isinstance(budget := policy.get("budget"), dict):
            wrong += _unknown(budget, Budget.__struct_fields__, "policy.budget.")
        retention = policy.get("retention")
        if isinstance(retention, dict):
            wrong += _unknown(retention, Retention.__struct_fields__, "policy.retention.")
            for name in Retention.__struct_fields__:
                if isinstance(keep := retention.get(name), dict):
                    wrong += _unknown(keep, Keep.__struct_fields__, f"policy.retention.{name}.")
    return wrong


def _unknown(found: dict[str, Any], known: tuple[str, ...], path: str) -> list[FieldError]:
    wrong = []
    for name in found:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            wrong.append(FieldError(path + name, f"is not a field of {layout.METADATA}{hint}"))
    return wrong


def _fixed(was: dict[str, Any], found: dict[str, Any]) -> list[FieldError]:
    """Fields that a person may not change, changed."""
    wrong = []
    for name in was:
        if name in EDITABLE:
            continue
        if name not in found:
            wrong.append(FieldError(name, f"is missing; put {_shown(was[name])} back"))
        elif name in _MOVING and type(found[name]) is type(was[name]) and found[name] <= was[name]:
            continue
        elif found[name] != was[name] or type(found[name]) is not type(was[name]):
            wrong.append(FieldError(name, f"cannot be edited; put {_shown(was[name])} back"))
    return wrong


def _shown(value: object) -> str:
    return msgspec.json.encode(value).decode()[:200]


def _patch(found: dict[str, Any]) -> SessionPatch:
    try:
        patch = msgspec.convert(found, SessionPatch)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at ")
        # `$.labels[...]`, or in front of that which part of it: `key` in `$.labels`
        field = place[place.find("$") + 1 :].strip("`.").partition("[")[0] or layout.METADATA
        raise Invalid.field(field, message[:1].lower() + message[1:]) from None
    if isinstance(patch.policy, PolicyChanges) and isinstance(patch.policy.retention, Retention):
        for part, keep in asdict(patch.policy.retention).items():
            for limit, value in asdict(keep).items():
                if value is not None and value < 0:
                    raise Invalid.field(f"policy.retention.{part}.{limit}", "must not be negative; null is no limit")
    return patch
