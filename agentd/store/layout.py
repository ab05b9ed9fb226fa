"""Every name in the data directory and in a session's directory. Pure: it reads and makes nothing."""

from __future__ import annotations

import re

from agentd.model.ids import is_session_id
from agentd.model.task import State

FORMAT = 1  #: of the data directory and of each file in it

FORMAT_FILE = "format.json"
AGENT_FILE = "agent.json"
TOKEN_FILE = "token"  # noqa: S105 - the name of the file
TOKENS_FILE = "tokens.json"
CONTAINERS_FILE = "containers"
SESSIONS = "sessions"
QUARANTINE = "quarantine"

METADATA = "metadata.json"
TASKS = "tasks.json"
HISTORY = "history"
OUTPUT = "output"
ARTIFACTS = "artifacts"
WORKSPACE = "workspace"
HOME = "home"
DIRECTORIES = (HISTORY, OUTPUT, ARTIFACTS, WORKSPACE, HOME)  #: of each session

NEW_PREFIX = ".new-"  #: of a session that is being created; session ids have no leading dot
DELETED_PREFIX = ".deleted-"  #: of one that is being deleted

_SEGMENT = re.compile(r"events-([0-9]{6,})\.jsonl")
_RECORD = re.compile(r"([0-9]{6,})-(completed|failed|timeout|cancelled)-([0-9a-z]+)\.json")
_STATES = {state.value: state for state in State}  # a fifth of the time of State(…), for 100,000 names
_OUTPUT = re.compile(r"[0-9a-z]+\.[0-9]+(\.log|\.idx|\.result\.json|\.result\.json\.left|\.handed)")
_TEMPORARY = re.compile(r"\..+\.tmp")


def format_path(data_dir: str) -> str:
    """The format of the data directory."""
    return f"{data_dir}/{FORMAT_FILE}"


def agent_path(data_dir: str) -> str:
    """Who serves the data directory, and where."""
    return f"{data_dir}/{AGENT_FILE}"


def containers_path(data_dir: str) -> str:
    """There while containers of the agent may be."""
    return f"{data_dir}/{CONTAINERS_FILE}"


def sessions_dir(data_dir: str) -> str:
    """Where the sessions are."""
    return f"{data_dir}/{SESSIONS}"


def quarantine_dir(data_dir: str) -> str:
    """Where cut and damaged bytes are kept."""
    return f"{data_dir}/{QUARANTINE}"


def session_id_of(session_dir: str) -> str:
    """Whose directory it is, also while it is being built."""
    return session_dir.rsplit("/", 1)[1].removeprefix(NEW_PREFIX)


def data_dir_of(session_dir: str) -> str:
    """The data directory that holds the session's directory."""
    return session_dir.rsplit("/", 2)[0]


def session_dir(data_dir: str, session_id: str) -> str:
    """A session's directory; the id has been checked."""
    return f"{data_dir}/{SESSIONS}/{session_id}"


def new_session_dir(sessions_dir: str, session_id: str) -> str:
    """Where a session is built before it gets its name."""
    return f"{sessions_dir}/{NEW_PREFIX}{session_id}"


def is_session_name(name: str) -> bool:
    """Whether a name in `sessions/` can be a session."""
    return is_session_id(name)


def metadata_path(session_dir: str) -> str:
    """The session, for people."""
    return f"{session_dir}/{METADATA}"


def tasks_path(session_dir: str) -> str:
    """The snapshot: live tasks and the last finished ones."""
    return f"{session_dir}/{TASKS}"


def history_dir(session_dir: str) -> str:
    """The journal and one record per finished task."""
    return f"{session_dir}/{HISTORY}"


def output_dir(session_dir: str) -> str:
    """What the tasks wrote."""
    return f"{session_dir}/{OUTPUT}"


def artifacts_dir(session_dir: str) -> str:
    """Files that tasks and clients leave for each other."""
    return f"{session_dir}/{ARTIFACTS}"


def home_dir(session_dir: str) -> str:
    """Where the programs of its tasks keep what they remember: an agent CLI its conversations."""
    return f"{session_dir}/{HOME}"


def workspace_dir(session_dir: str) -> str:
    """Where tasks run unless they say otherwise."""
    return f"{session_dir}/{WORKSPACE}"


def output_log(task_id: str, attempt: int) -> str:
    """Raw output of an attempt, relative to the session's directory."""
    return f"{OUTPUT}/{task_id}.{attempt}.log"


def output_index(task_id: str, attempt: int) -> str:
    """One line per chunk of the log, relative to the session's directory."""
    return f"{OUTPUT}/{task_id}.{attempt}.idx"


def output_result(task_id: str, attempt: int) -> str:
    """What the attempt leaves as its result, relative to the session's directory."""
    return f"{OUTPUT}/{task_id}.{attempt}.result.json"


def output_handed(task_id: str, attempt: int) -> str:
    """What the attempt of a workflow's step hands on, its AGENTD_OUTPUT, relative to the session's directory."""
    return f"{OUTPUT}/{task_id}.{attempt}.handed"


def is_output(name: str) -> bool:
    """Whether an attempt leaves files of such a name in output/."""
    return _OUTPUT.fullmatch(name) is not None


def segment_name(number: int) -> str:
    """A segment of the journal, numbered from 1."""
    return f"events-{number:06d}.jsonl"


def segment_path(session_dir: str, number: int) -> str:
    """A segment of the journal."""
    return f"{session_dir}/{HISTORY}/{segment_name(number)}"


def segment_number(name: str) -> int | None:
    """The number in a segment's name; None for any other name."""
    match = _SEGMENT.fullmatch(name)
    number = int(match[1]) if match else None
    return number if number is not None and segment_name(number) == name else None


def record_name(seq: int, state: State, task_id: str) -> str:
    """The record of a finished task; `seq` is that of the event that finished it."""
    return f"{seq:06d}-{state}-{task_id}.json"


def record_path(session_dir: str, seq: int, state: State, task_id: str) -> str:
    """The record of a finished task."""
    return f"{session_dir}/{HISTORY}/{record_name(seq, state, task_id)}"


def parsed_record_name(name: str) -> tuple[int, State, str] | None:
    """The seq, state and task id in a record's name; None for any other name."""
    match = _RECORD.fullmatch(name)
    return (int(match[1]), _STATES[match[2]], match[3]) if match else None


def is_temporary(name: str) -> bool:
    """Whether it is the unfinished half of a replaced file, left by a crash."""
    return _TEMPORARY.fullmatch(name) is not None


def quarantine_name(source: str, offset: int, digest: str) -> str:
    """The name of kept bytes: `source` is `session.file`; the content's digest keeps two cuts at one place apart."""
    return f"{source}.{offset}.{digest[:12]}"
