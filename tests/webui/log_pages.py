"""What tests of logs share: tasks that write them, and what a browser shows of them."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.daemon.harness import RealDaemon

from .viewer import RealViewer

#: A log that grows until `stop` is there, at about 20,000 lines a second.
GROWING = "n=0; while [ ! -e stop ]; do seq $n $((n+499)); n=$((n+500)); sleep 0.025; done; echo the last line"


def log_of(task: dict[str, Any], more: str = "") -> str:
    """The address of a task's log."""
    return f"/a/one/s/{task['session_id']}/t/{task['task_id']}/log{more}"


def done(daemon: RealDaemon, command: str, **fields: object) -> dict[str, Any]:
    """A task that has run."""
    return daemon.wait(daemon.shell("s", command, **fields)["task_id"])


def top(page: Page) -> int:
    """The number of the line at the top of the view."""
    found = page.evaluate(
        """() => {
          const box = document.querySelector(".lines").getBoundingClientRect();
          return document.elementFromPoint(box.left + 20, box.top + 12)?.closest(".ln")?.id.slice(1) ?? "0";
        }"""
    )
    return int(found)


def total(page: Page) -> int:
    """How many lines the view knows of."""
    return int(page.locator("#log-size").inner_text().split()[0].replace(",", ""))


def is_at_end(page: Page) -> bool:
    """Whether the last line is in sight."""
    found = page.evaluate(
        """() => {
          const box = document.querySelector(".lines");
          return box.scrollTop + box.clientHeight >= box.scrollHeight - 2;
        }"""
    )
    return bool(found)


def look_at(page: Page, viewer: RealViewer, task: dict[str, Any], more: str = "") -> None:
    """Open a log, and wait until its script has taken over."""
    page.goto(viewer.url + log_of(task, more))
    taken_over(page)


def taken_over(page: Page) -> None:
    expect(page.locator("[data-act=copy]")).to_be_visible()


def follow_button(page: Page) -> Locator:
    return page.locator("[data-act=follow]")


def stop(daemon: RealDaemon) -> None:
    """End what GROWING began."""
    (daemon.data_dir / "sessions" / "s" / "workspace" / "stop").touch()
