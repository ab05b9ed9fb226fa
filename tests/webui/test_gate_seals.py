"""What is sealed and signed: whatever is changed in it, it opens nothing."""

from __future__ import annotations

import base64

import pytest

from webui.identity import MAX_SEALED, Identity, Role, Seals, role_needed
from webui.links import LINK_S, Links

SECRET = b"s" * 32


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def changed(text: str, at: int) -> str:
    """The text with one bit of its decoded bytes flipped."""
    raw = bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    raw[at] ^= 1
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_a_link_opens_once_what_it_was_made_for() -> None:
    links = Links(SECRET, Clock())
    link = links.make(Role.OPERATOR)
    assert links.take(link) is Role.OPERATOR
    assert links.take(link) is None


def test_a_link_that_was_changed_anywhere_opens_nothing() -> None:
    links = Links(SECRET, Clock())
    link = links.make(Role.VIEWER)
    for at in range(len(base64.urlsafe_b64decode(link + "=" * (-len(link) % 4)))):
        assert links.take(changed(link, at)) is None
    for other in ("", "x", link[:-1], link + "A", "ä" * len(link), "=" * len(link), Links(b"t" * 32, Clock()).make()):
        assert links.take(other) is None
    assert links.take(link) is Role.VIEWER


def test_a_link_ends_in_time_and_with_the_viewer_it_was_made_for() -> None:
    clock = Clock()
    links = Links(SECRET, clock)
    first, second = links.make(), links.make()
    clock.now += LINK_S - 1
    assert links.take(first) is Role.ADMIN
    clock.now += 1
    assert links.take(second) is None
    third = links.make()
    clock.now += 1
    assert Links(SECRET, clock).take(third) is None


def test_an_identity_that_was_changed_anywhere_is_nobodys() -> None:
    seals = Seals(SECRET)
    identity = Identity(sid="s", role=Role.ADMIN, tokens={"one": "secret-token"}, expires_at=2)
    sealed = seals.seal(identity)
    assert seals.identity(sealed, 1) == identity
    assert seals.identity(sealed, 2) is None
    assert "secret-token" not in sealed and b"secret-token" not in base64.urlsafe_b64decode(sealed + "==")
    for at in range(len(base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4)))):
        assert seals.identity(changed(sealed, at), 1) is None
    for other in ("", "ä", "x" * (MAX_SEALED + 1), Seals(b"t" * 32).seal(identity), Links(SECRET, Clock()).make()):
        assert seals.identity(other, 1) is None


def test_an_identity_uses_each_token_at_its_agent_and_the_viewers_own_only_if_it_may() -> None:
    brought = Identity(sid="s", role=Role.ADMIN, tokens={"one": "mine"}, expires_at=1)
    assert [brought.token_for(name, "configured") for name in ("one", "two")] == ["mine", None]
    linked = Identity(sid="s", role=Role.ADMIN, configured=Role.VIEWER, tokens={"one": "mine"}, expires_at=1)
    assert [linked.token_for(name, "configured") for name in ("one", "two")] == ["mine", "configured"]
    assert [linked.most_at(name) for name in ("one", "two")] == [Role.ADMIN, Role.VIEWER]


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/admin/check", Role.VIEWER),
        ("HEAD", "/sessions", Role.VIEWER),
        ("POST", "/tasks", Role.OPERATOR),
        ("DELETE", "/sessions/x", Role.OPERATOR),
        ("POST", "/admin/reset", Role.ADMIN),
        ("POST", "/workers/scale", Role.ADMIN),
        ("POST", "/shutdown", Role.ADMIN),
        ("POST", "/what-is-to-come", Role.ADMIN),
        ("POST", "//sessions", Role.ADMIN),
        ("BREW", "/admin", Role.ADMIN),
    ],
)
def test_what_nobody_knows_takes_an_admin(method: str, path: str, role: Role) -> None:
    assert role_needed(method, path) is role
