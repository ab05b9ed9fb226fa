"""Pictures of the viewer for the README: real daemons at real work, seen in Chromium, light and dark."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.daemon.harness import RealDaemon, until
from tests.webui.conftest import CHROMIUM, FLAGS, enter
from tests.webui.viewer import RealViewer

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
SIZE = {"width": 1120, "height": 700}
TALL = {"width": 1120, "height": 940}
PHONE = {"width": 360, "height": 700}
WIDE = {"width": 1120, "height": 780}

_TEST_RUN = r"""
printf '\033[1m==> compiling\033[0m\n'
for n in $(seq 1 60); do
  printf '\033[32mok\033[0m   test_%03d  \033[2m%d ms\033[0m\n' "$n" $((n * 7 % 41))
done
printf '\033[33mwarning\033[0m: 2 tests are slow\n'
printf '\033[1;31mFAILED\033[0m test_061: expected \033[36m200\033[0m, found \033[35m503\033[0m\n' >&2
exit 1
"""
_STEADY = r"""
n=0
while :; do
  n=$((n + 1))
  printf '\033[36mshard %03d\033[0m  \033[32mfetched\033[0m  %d KiB\n' "$n" $((n * 613 % 4096))
  sleep 0.5
done
"""
#: An agent as the settings may describe any: it asks once, and tells how far it is.
_REVIEWER = f"""
agentd() {{ {sys.executable} -m agentd.cli.main "$@"; }}
echo 'I read src/api.py and the 31 places that call it.'
agentd progress 10 --phase reading
echo 'The tests of the callers pass before any change.'
agentd progress 40 --phase planning
agentd ask 'The change renames 14 public functions. Shall the old names stay as aliases for a release?' \\
  --option 'keep aliases' --option 'rename only' --option stop
"""
_WORKFLOW = """name: build-and-test
inputs: {package: {default: click, description: What to build.}}
steps:
  - id: fetch
    run: echo "file=$PACKAGE-8.1.8.tar.gz" >> "$AGENTD_OUTPUT"
    env: {PACKAGE: "${{ inputs.package }}"}
    outputs: [file]
  - {id: lint, run: "true"}
  - id: test
    needs: [fetch]
    matrix: {python: [3.11, 3.12, 3.13]}
    run: "[ ${{ matrix.python }} != 3.13 ] || sleep 600"
  - {id: docs, needs: [fetch], run: "true"}
  - {id: approve, needs: [test, docs, lint], run: agentd ask "Publish?" --option yes --option no}
  - {id: publish, needs: [approve], run: make publish}
"""


def main() -> None:
    """Take all pictures."""
    if CHROMIUM is None:
        raise SystemExit("screenshots: no Chromium: apt install chromium fonts-dejavu-core")
    place = Path(tempfile.mkdtemp(prefix="agentd-pictures-"))
    PICTURES.mkdir(exist_ok=True)
    try:
        with daemons(place) as (work, lab), sync_playwright() as playwright:
            failed, running = seeded(work, lab)
            more = {"question": asking(lab), "workflow": workflow(work)}
            viewer = RealViewer(place / "viewer", {"workshop": work.data_dir, "lab": lab.data_dir}).start().log_in()
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            try:
                for scheme in ("light", "dark"):
                    take(browser, viewer, scheme, failed, running)
                    for name, path in more.items():
                        shot(browser, viewer, scheme, path, f"{name}-{scheme}", WIDE)
            finally:
                browser.close()
                viewer.end()
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def daemons(place: Path) -> Iterator[tuple[RealDaemon, RealDaemon]]:
    """Two daemons, ended at the end."""
    reviewer = {"reviewer": ["sh", "-c", _REVIEWER, "{prompt}"]}
    both = RealDaemon(place / "workshop"), RealDaemon(place / "lab", agents=reviewer)
    try:
        yield both[0].start(), both[1].start()
    finally:
        for daemon in both:
            daemon.end()


def seeded(work: RealDaemon, lab: RealDaemon) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sessions with a past and a present; one task that failed, and one that runs."""
    work.request("POST", "/sessions", {"session_id": "build-click", "title": "Build click", "labels": {"team": "web"}})
    fetch = work.shell("build-click", "sleep 0.4; echo fetched 399 kB", name="fetch")
    compile_ = work.shell("build-click", "sleep 0.9; seq 1 200", name="compile", needs=[fetch["task_id"]])
    retry = {"max": 1, "on": ["exit_code"], "backoff_s": 0.3}
    tests = work.shell("build-click", _TEST_RUN, name="test", needs=[compile_["task_id"]], retry=retry)
    work.shell("build-click", "echo published", name="publish", needs=[tests["task_id"]])
    work.wait(tests["task_id"])
    for name in ("fix-readme", "triage-issues"):
        work.wait(work.shell(name, "sleep 0.2; echo done", labels={"model": "small"})["task_id"])
    lab.request("POST", "/sessions", {"session_id": "nightly-eval", "title": "Nightly evaluation"})
    running = lab.shell("nightly-eval", _STEADY, name="download")
    lab.shell("nightly-eval", "true", name="score", needs=[running["task_id"]])
    lab.state(running["task_id"], "running")
    report = {"progress": 62, "phase": "download", "message": "62 of 100 shards", "items_processed": 62}
    lab.request("POST", f"/tasks/{running['task_id']}/progress", report)
    return work.task(tests["task_id"]), lab.task(running["task_id"])


def asking(daemon: RealDaemon) -> str:
    """The page of an agent's task that awaits an answer."""
    spec = {"agent": "reviewer", "prompt": "Rename the functions of src/api.py as PEP 8 has it"}
    new = {"kind": "agent", "spec": spec, "session_id": "rename-api", "name": "rename-api"}
    task = daemon.request("POST", "/tasks", new).json
    until(lambda: daemon.task(task["task_id"])["awaiting"] is not None)
    return f"/a/lab/s/rename-api/t/{task['task_id']}"


def workflow(daemon: RealDaemon) -> str:
    """The page of a run that has come to its last test."""
    daemon.request("POST", "/sessions", {"session_id": "release", "policy": {"max_parallel": 4}})
    run_id = daemon.request("POST", "/sessions/release/workflow", {"source": _WORKFLOW}).json["run_id"]

    def left() -> int:
        steps = daemon.get(f"/workflows/{run_id}")["steps"]
        return sum(step["state"] != "completed" for step in steps)

    until(lambda: left() == 3)
    return f"/a/workshop/s/release/w/{run_id}"


def take(browser: Browser, viewer: RealViewer, scheme: str, failed: dict[str, Any], running: dict[str, Any]) -> None:
    """All pictures of one colour scheme."""
    session = f"/a/workshop/s/{failed['session_id']}"
    pages = {
        "sessions": "/",
        "session": session,
        "task": f"/a/lab/s/{running['session_id']}/t/{running['task_id']}",
        "log": f"{session}/t/{failed['task_id']}/log",
    }
    for name, path in pages.items():
        shot(browser, viewer, scheme, path, f"{name}-{scheme}", TALL if name == "session" else SIZE)
    shot(browser, viewer, scheme, "/", f"phone-{scheme}", PHONE)


def shot(browser: Browser, viewer: RealViewer, scheme: str, path: str, name: str, size: dict[str, int]) -> None:
    """One picture, once the page stands still."""
    context = browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
    try:
        enter(context, viewer)
        page = context.new_page()
        page.goto(viewer.url + path, wait_until="load")
        settled(page)
        page.screenshot(path=PICTURES / f"{name}.png", animations="disabled")
        print(f"docs/pictures/{name}.png")
    finally:
        context.close()


def settled(page: Page) -> None:
    """Wait until agents that were slow are filled in."""
    page.locator("#main:not([data-pending])").wait_for()
    page.wait_for_timeout(500)


if __name__ == "__main__":
    main()
