"""Workflows and their runs."""

from __future__ import annotations

from collections.abc import Mapping

from agentd.client import queries
from agentd.client.calls import session_path
from agentd.client.files import FileCalls
from agentd.client.transport import segment
from agentd.model.requests import Page
from agentd.model.run_views import Given, NewRun, RunQuery, RunView, WorkflowOutline, WorkflowSource


class WorkflowCalls(FileCalls):
    """Validate, run, look, cancel, resume."""

    async def validate_workflow(self, source: str) -> WorkflowOutline:
        """What a workflow file describes; WorkflowInvalid, with `problems`, when it cannot be run."""
        return await self._json(WorkflowOutline, "POST", "/workflows/validate", body=WorkflowSource(source=source))

    async def run_workflow(
        self, session_id: str, source: str, inputs: Mapping[str, Given] | None = None, *, key: str | None = None
    ) -> RunView:
        """A new run in a session that exists."""
        new = NewRun(source=source, inputs=dict(inputs or {}))
        return await self._create(RunView, session_path(session_id) + "/workflow", new, key)

    async def workflow_runs(self, session_id: str, query: RunQuery | None = None) -> Page[RunView]:
        """One page of a session's runs, without their steps, the newest first."""
        params = queries.encoded(query or RunQuery())
        return await self._json(Page[RunView], "GET", session_path(session_id) + "/workflows", params=params)

    async def workflow_run(self, run_id: str, session_id: str | None = None) -> RunView:
        """One run with its steps."""
        path = f"/workflows/{segment(run_id)}" if session_id is None else _path(session_id, run_id)
        return await self._json(RunView, "GET", path)

    async def cancel_workflow(self, session_id: str, run_id: str) -> RunView:
        """Cancel a run whole; InvalidTransition when it has ended."""
        return await self._json(RunView, "POST", _path(session_id, run_id) + "/cancel")

    async def resume_workflow(self, session_id: str, run_id: str) -> RunView:
        """Go on with a run that has ended; InvalidTransition when there is nothing to run again."""
        return await self._json(RunView, "POST", _path(session_id, run_id) + "/resume")


def _path(session_id: str, run_id: str) -> str:
    return f"{session_path(session_id)}/workflows/{segment(run_id)}"
