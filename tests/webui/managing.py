"""A page of a test's own on the viewer's origin, under the viewer's own policy, that imports agentd.js."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page, Route

from tests.daemon.harness import until
from webui.app import POLICY

from .viewer import RealViewer

#: Makes `manager` and writes down what it tells.
_MAKE = """
async (options) => {
  const module = await import("/static/agentd.js");
  Object.assign(window, module);
  window.heard = [];
  window.manager = new module.TaskStateManager({ pollingFrequency: 150, ...options });
  for (const type of module.TaskStateManager.EVENTS) manager.on(type, (detail) => heard.push([type, detail]));
}
"""


class Managed:
    """A `TaskStateManager` in a tab: what it is told to do, and what it has told.

    Args:
        options: those of its constructor.
    """

    def __init__(self, page: Page, viewer: RealViewer, **options: object) -> None:
        self.page = page
        csrf = viewer.csrf

        def blank(route: Route) -> None:
            body = f'<!doctype html><title>test</title><meta name="csrf-token" content="{csrf}"><p>Hello'
            route.fulfill(body=body, content_type="text/html", headers={"Content-Security-Policy": POLICY})

        page.route("**/a-page-of-others", blank)
        page.goto(viewer.url + "/a-page-of-others")
        page.evaluate(_MAKE, options)

    def do(self, call: str, *given: object) -> Any:
        """What a method gives: `do("startTask", "true")`."""
        return self.page.evaluate("([call, given]) => manager[call](...given)", [call, list(given)])

    def heard(self, *types: str) -> list[tuple[str, dict[str, Any]]]:
        """What was told so far, of these types or of all."""
        events = self.page.evaluate("heard")
        return [(kind, detail) for kind, detail in events if not types or kind in types]

    def next(self, kind: str, within_s: float = 60, **wanted: object) -> dict[str, Any]:
        """The first event of the type with these fields that was told since the last `next`, or will be."""

        def found() -> list[dict[str, Any]]:
            for number, (told, detail) in enumerate(self.page.evaluate("heard")):
                if told == kind and wanted.items() <= detail.items():
                    self.page.evaluate("(number) => heard.splice(0, number + 1)", number)
                    return [detail]
            return []

        return until(found, within_s)[0]
