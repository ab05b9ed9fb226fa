"""The settings page: who is logged in, with whose tokens, and for admins how it is all set up."""

from __future__ import annotations

from urllib.parse import urlsplit

from tests.daemon.harness import RealDaemon, until

from .conftest import MakeDaemon, MakeViewer
from .viewer import RealViewer


def test_a_login_by_link_is_shown_with_its_role_and_end_and_ended(viewer: RealViewer) -> None:
    found = viewer.get("/settings")
    assert (found["login"]["role"], found["login"]["by_link"]) == ("admin", True)
    assert [(row["agent"], row["token"], row["role"], row["source"]) for row in found["data"]] == [
        ("one", "viewer", "admin", "flag")
    ]
    left = viewer.post("/logout")
    assert left.status == 303
    assert urlsplit(left.headers["location"]).path == "/login"


def test_no_token_is_ever_shown(viewer: RealViewer, daemon: RealDaemon) -> None:
    page = viewer.html("/settings")
    assert daemon.token not in page
    assert "agentd token create" in page
    assert "Emergency reset" in page


def test_a_person_with_a_token_of_their_own_sees_for_which_agents(
    viewer: RealViewer, make_daemon: MakeDaemon, make_viewer: MakeViewer, daemon: RealDaemon
) -> None:
    other = make_daemon("other").start()
    both = make_viewer({"one": daemon.data_dir, "two": other.data_dir}, name="both").start()
    form = f"agent=one&token={daemon.token}".encode()
    answer = both.request("POST", "/login", form, Content_Type="application/x-www-form-urlencoded")
    both.cookie = answer.headers["set-cookie"].split(";")[0]
    found = both.get("/settings")
    assert found["login"]["by_link"] is False
    assert {row["agent"]: row["token"] for row in found["data"]} == {"one": "login", "two": None}
    assert "log in to two" in both.html("/settings")


def test_who_may_only_look_sees_no_care_and_no_setup(viewer: RealViewer) -> None:
    link = viewer.command("link", "--role", "viewer").stdout.decode().strip()
    viewer.cookie = viewer.request("POST", urlsplit(link).path, Cookie="").headers["set-cookie"].split(";")[0]
    page = viewer.html("/settings")
    assert "Log out" in page
    assert "Emergency reset" not in page
    assert "agentd token create" not in page


def test_an_agent_that_does_not_answer_is_offered_no_care(make_viewer: MakeViewer, daemon: RealDaemon) -> None:
    viewer = make_viewer({"one": daemon.data_dir, "gone": "http://127.0.0.1:9"}).start().log_in()
    page = viewer.html("/settings")
    assert "/a/one/reset" in page
    assert "/a/gone/reset" not in page


def test_a_mistake_in_webui_yaml_is_shown(make_viewer: MakeViewer, daemon: RealDaemon) -> None:
    viewer = make_viewer({"one": daemon.data_dir})
    viewer.place.mkdir()
    config = viewer.place / "webui.yaml"
    config.write_text("agents: []\n")
    viewer.start().log_in()
    config.write_text("agents: 7\n")
    until(lambda: "is not taken in as it is now" in viewer.html("/settings"))
