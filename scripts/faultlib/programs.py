"""What the tasks of a life run."""

from __future__ import annotations

#: From a task's directory to that of the life: relative, so that a copy of it is a life of its own.
HERE = "../../../.."
#: What each attempt leaves.
MARK = f"echo $AGENTD_TASK_ID.$AGENTD_ATTEMPT >> {HERE}/marks"
#: A step hands on what the next one needs.
FLOW = f"""
name: flow
steps:
  - {{id: one, run: '{MARK}; echo n=7 >> "$AGENTD_OUTPUT"', outputs: [n]}}
  - {{id: two, needs: [one], run: '{MARK}; test "$N" = 7', env: {{N: "${{{{ steps.one.outputs.n }}}}"}}}}
"""
#: A program that submits a task with the token of its own, and says which one it made.
DELEGATES = """
import json, os, sys, urllib.request
session, token = os.environ["AGENTD_SESSION_ID"], os.environ["AGENTD_TOKEN"]
task = {"name": sys.argv[1], "spec": {"command": sys.argv[2]}}
headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
url = f"{os.environ['AGENTD_URL']}/sessions/{session}/task"
asked = urllib.request.Request(url, json.dumps(task).encode(), headers)
print("made", json.load(urllib.request.urlopen(asked, timeout=60))["task_id"])
"""
