"""Whether everybody can use a page, as axe judges it, and whether it fits the screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Page

AXE = (Path(__file__).parent / "vendor" / "axe-4.14.1.min.js").read_text()
#: WCAG 2.2 AA and axe's best practices.
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
#: Colours depend on the scheme and places on the width, so that two of the four ways to combine them tell all.
LOOKS: tuple[tuple[Literal["light", "dark"], int], ...] = (("light", 1280), ("dark", 320))


def wrong_with(page: Page) -> list[str]:
    """What is wrong with an open page in each of LOOKS; it is left in the last."""
    page.evaluate(AXE)
    wrong = []
    for scheme, width in LOOKS:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        found: list[dict[str, Any]] = page.evaluate("tags => axe.run({runOnly: tags})", TAGS)["violations"]
        wrong += [f"{scheme}: {each['id']}: {[node['html'] for node in each['nodes']][:3]}" for each in found]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wrong.append(f"at {width} pixels it scrolls sideways")
    return wrong
