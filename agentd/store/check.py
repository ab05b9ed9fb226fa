"""Verify the whole store: every CRC of every segment, views against the journal, records, modes, links, strangers.

The caller holds the lock on the data directory, or on each session. A session that is damaged is reported and left
exactly as it is, with `repair` too; what a start of the daemon would mend is mended.
"""

from __future__ import annotations

from agentd.errors import SessionReadOnly, StorageFailed
from agentd.model.upkeep import CheckFinding, CheckReport
from agentd.store import layout
from agentd.store.datadir import read_format
from agentd.store.disk import Disk
from agentd.store.session_check import Findings, SessionCheck

_OWN_FILES = (layout.FORMAT_FILE, layout.AGENT_FILE, layout.TOKEN_FILE, layout.TOKENS_FILE, layout.CONTAINERS_FILE)


def check(disk: Disk, data_dir: str, *, repair: bool) -> CheckReport:
    """Read everything, report what is wrong, and with `repair` mend what can be mended without losing a byte.

    Raises:
        FormatTooNew: a newer agentd wrote the data directory.
        StorageFailed: the data directory cannot be read.
    """
    read_format(disk, data_dir)
    findings = Findings(disk, repair)
    sessions = events = 0
    try:
        findings.mode(None, data_dir, "directory")
        for name in (layout.SESSIONS, layout.QUARANTINE):
            findings.mode(None, f"{data_dir}/{name}", "directory")
        for name in _OWN_FILES:
            if disk.exists(f"{data_dir}/{name}"):
                findings.mode(None, f"{data_dir}/{name}", "file")
        names = sorted(disk.listdir(layout.sessions_dir(data_dir)))
    except OSError as error:
        raise StorageFailed(f"{data_dir} cannot be read: {error.strerror}") from error
    for name in names:
        path = layout.session_dir(data_dir, name)
        if not layout.is_session_name(name) or disk.entry(path).kind != "directory":
            findings.add(None, f"{layout.SESSIONS}/{name}", "is not a session")
            continue
        sessions += 1
        try:
            events += SessionCheck(disk, path, findings, repair).run()
        except SessionReadOnly as error:
            findings.add(name, layout.HISTORY, f"damaged: {error.detail}")
        except (OSError, StorageFailed) as error:
            findings.add(name, ".", f"cannot be read or repaired: {error}")
    return CheckReport(sessions=sessions, events=events, findings=tuple(findings.found))


def check_session(disk: Disk, path: str) -> tuple[CheckFinding, ...]:
    """What is wrong in one session's directory; nothing is changed.

    Raises:
        SessionReadOnly: it is damaged.
        OSError: it cannot be read.
    """
    findings = Findings(disk, repair=False)
    SessionCheck(disk, path, findings, repair=False).run()
    return tuple(findings.found)
