#!/bin/sh
# The API with curl, against a daemon that serves sessions_data/ (scripts/serve). Needs curl and python3.
set -eu
data=${AGENTD_DATA_DIR:-sessions_data}
url=${AGENTD_URL:-$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["url"])' "$data/agent.json")}
token=${AGENTD_TOKEN:-$(cat "$data/token")}
session=walkthrough-$$

# The token goes through a file descriptor, not the command line, which every user of the machine can read.
ask() {
    method=$1 path=$2
    shift 2
    printf 'header = "Authorization: Bearer %s"\n' "$token" |
        curl -sS --fail-with-body --config - -X "$method" -H 'Content-Type: application/json' "$@" "$url$path"
}
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
say() { printf '\n== %s\n' "$*"; }

say "a session, two tasks at a time"
ask POST /sessions -d "{\"session_id\": \"$session\", \"policy\": {\"max_parallel\": 2}}"

say "a task; the key makes it safe to send this again"
first=$(ask POST "/sessions/$session/task" -H "Idempotency-Key: $session-1" \
    -d '{"name": "fetch", "spec": {"command": "for n in 1 2 3; do echo part $n; sleep 0.3; done"}}' | field task_id)
again=$(ask POST "/sessions/$session/task" -H "Idempotency-Key: $session-1" \
    -d '{"name": "fetch", "spec": {"command": "for n in 1 2 3; do echo part $n; sleep 0.3; done"}}' | field task_id)
echo "$first, and again $again"

say "a task that needs it, and one that will be cancelled"
second=$(ask POST "/sessions/$session/task" \
    -d "{\"name\": \"report\", \"needs\": [\"$first\"], \"spec\": {\"command\": \"echo all parts are here\"}}" | field task_id)
third=$(ask POST "/sessions/$session/task" -d '{"spec": {"command": "sleep 1000"}}' | field task_id)
ask GET /queue

say "cancel it"
ask POST "/tasks/$third/cancel" | field state
ask GET "/tasks/$third/wait?timeout_s=10" | field cause

say "wait for the report; read its output"
ask GET "/tasks/$second/wait?timeout_s=20" | field state
ask GET "/tasks/$second/output"

say "everything that happened, as it can be streamed (Accept: text/event-stream) and resumed (?after=SEQ)"
ask GET "/sessions/$session/events?after=0&limit=3"

say "a mistake is named"
ask POST "/sessions/$session/task" -d '{"spec": {"command": "true"}, "prioritty": 5}' || true

say "and gone"
ask DELETE "/sessions/$session"
