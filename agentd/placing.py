"""Where a task's attempt runs and what it is given: paths in its session, its environment."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase

from agentd.config import Settings
from agentd.kinds.containers import ENGINE_VARIABLES
from agentd.kinds.protocol import Place
from agentd.model.ids import is_conversation_id
from agentd.model.session import Session
from agentd.model.task import Task
from agentd.scopes import TaskTokens
from agentd.store import layout


class Places:
    """Makes the place of each attempt. `url` is where the daemon answers, once it does."""

    def __init__(
        self,
        data_dir: str,
        settings: Settings,
        tokens: TaskTokens,
        environ: Mapping[str, str],
        agent_id: str = "",
        boot_id: str = "",
    ) -> None:
        self.url = ""
        self._agent_id = agent_id
        self._boot_id = boot_id
        self._container_engine = {name: environ[name] for name in ENGINE_VARIABLES if name in environ}
        self._data_dir = data_dir
        sessions = os.path.realpath(f"{data_dir}/{layout.SESSIONS}")  # which may be a link to another disk
        self._private = (data_dir,) if sessions.startswith(f"{data_dir}/") else (data_dir, sessions)
        self._settings = settings
        self._tokens = tokens
        self._inherited = inherited(environ, settings.tasks.env_pass)

    def __call__(self, task: Task, session: Session) -> Place:
        """The place of the task's current attempt; its directories are there again if an earlier task removed them."""
        session_dir = layout.session_dir(self._data_dir, task.session_id)
        workspace, artifacts = layout.workspace_dir(session_dir), layout.artifacts_dir(session_dir)
        for directory in (workspace, artifacts):
            if not os.path.isdir(directory):
                with contextlib.suppress(OSError):  # the launch then says what is wrong with it
                    os.mkdir(directory, 0o700)
        result_path = f"{session_dir}/{layout.output_result(task.task_id, task.attempt)}"
        env = {
            **self._inherited,
            "AGENTD_SESSION_ID": task.session_id,
            "AGENTD_TASK_ID": task.task_id,
            "AGENTD_ATTEMPT": str(task.attempt),
            "AGENTD_URL": self.url,
            "AGENTD_TOKEN": self._tokens.issue(task.task_id),
            "AGENTD_ARTIFACTS": artifacts,
            "AGENTD_RESULT": result_path,
        }
        if task.workflow is not None:
            env["AGENTD_OUTPUT"] = f"{session_dir}/{layout.output_handed(task.task_id, task.attempt)}"
        limits = self._settings.limits
        return Place(
            workspace=workspace,
            artifacts=artifacts,
            log_path=f"{session_dir}/{layout.output_log(task.task_id, task.attempt)}",
            index_path=f"{session_dir}/{layout.output_index(task.task_id, task.attempt)}",
            result_path=result_path,
            env=env,
            grace_s=self._settings.workers.grace_s,
            max_output_bytes=min(task.max_output_bytes or limits.output_bytes, limits.output_bytes),
            max_result_bytes=limits.result_bytes,
            home=layout.home_dir(session_dir),
            conversations={  # of an archive they are as somebody else wrote them
                agent: each for agent, each in session.conversations.items() if is_conversation_id(each)
            },
            private=self._private,
            agent_id=self._agent_id,
            boot_id=self._boot_id,
            container_engine=self._container_engine,
        )


def inherited(environ: Mapping[str, str], patterns: tuple[str, ...]) -> dict[str, str]:
    """What tasks inherit of the daemon's environment: the names that match, never an AGENTD_ one.

    The directory of agentd's own programs ends PATH, so that `agentd progress` works inside a task.
    """
    env = {
        name: value
        for name, value in environ.items()
        if not name.startswith("AGENTD_") and any(fnmatchcase(name, pattern) for pattern in patterns)
    }
    own = os.path.dirname(sys.executable)
    path = env.get("PATH", os.defpath)
    env["PATH"] = path if own in path.split(os.pathsep) else f"{path}{os.pathsep}{own}"
    return env
