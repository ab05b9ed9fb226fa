"""Names that turn the direction of writing (Unicode's bidirectional controls) turn nothing but themselves."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.daemon.harness import RealDaemon

from .viewer import RealViewer

TURNING = "fine\u202egnp.exe"
#: Texts of the viewer's own, beside names, whose last letter is not to the right of their first.
_TURNED = """() => {
  const turned = [];
  const all = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = all.nextNode());) {
    const text = node.textContent.trim();
    if (text.length < 2 || text.includes("\\u202e")) continue;
    const at = (offset) => {
      const letter = document.createRange();
      letter.setStart(node, offset);
      letter.setEnd(node, offset + 1);
      return letter.getBoundingClientRect();
    };
    const begin = node.textContent.indexOf(text);
    const [first, last] = [at(begin), at(begin + text.length - 1)];
    if (first.width && first.top === last.top && last.left < first.left) turned.push(text);
  }
  return turned;
}"""


def test_a_name_that_turns_the_direction_turns_no_word_of_the_viewers(
    page: Page, viewer: RealViewer, daemon: RealDaemon
) -> None:
    task = daemon.shell("s", "exit 3", name=TURNING, labels={"kind": TURNING})
    daemon.wait(task["task_id"])
    daemon.request("PATCH", "/sessions/s", {"title": TURNING, "labels": {"of": TURNING}})
    daemon.shell("s", "sleep 60", name=TURNING)
    daemon.shell("s", "true", name=TURNING)
    for path in ("/", "/history", "/queue", "/workers", "/analytics", "/a/one/s/s", f"/a/one/s/s/t/{task['task_id']}"):
        page.goto(viewer.url + path)
        assert page.evaluate(_TURNED) == [], path
