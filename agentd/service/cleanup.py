"""Retention: what is over the limits goes, after the journal says so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from agentd.clock import epoch
from agentd.errors import AgentdError, StorageFailed
from agentd.model.upkeep import CheckReport, CleanupReport
from agentd.service.upkeep import Upkeep
from agentd.store.entry import Entry
from agentd.store.folder import KeyRecord
from agentd.store.pruning import carry_out, look
from agentd.store.retention import Plan, SessionFacts, Step, plan


class Cleanup(Upkeep):
    """Retention and the check of the store."""

    _cleaning: asyncio.Lock | None = None

    async def cleanup(self, dry_run: bool) -> CleanupReport:
        """Remove what retention does not keep; with `dry_run` only say what that is, and how many bytes.

        Live tasks, pinned sessions and tasks with unexpired Idempotency-Keys are never touched. A session that cannot
        be read is left alone.
        """
        if self._cleaning is None:
            self._cleaning = asyncio.Lock()
        async with self._cleaning:
            facts = [known for each in list(self.store.entries) if (known := await self._facts(each)) is not None]
            found = await self.in_thread(plan, facts, self.settings.retention, self.clock.time())
            if not dry_run:
                await self._carry_out(found, {known.session_id: known.updated_at for known in facts})
        return CleanupReport(
            dry_run=dry_run, sessions=found.sessions, tasks=found.tasks, outputs=found.outputs, bytes=found.bytes
        )

    async def _facts(self, session_id: str) -> SessionFacts | None:
        entry = self.store.entries.get(session_id)
        if entry is None or entry.reason is not None:
            return None
        with contextlib.suppress(AgentdError, OSError):
            if entry.ledger is not None:
                await entry.ledger.views.flush()
            return await self.in_thread(self._looked, session_id, entry, self._known(entry))
        return None

    def _known(self, entry: Entry) -> SessionFacts | None:
        """The facts of a session in memory; None when they have to be read."""
        if (ledger := entry.ledger) is None:
            return None
        self._forget_expired(entry)
        live = [task for task in ledger.tasks.values() if not task.terminal]
        facts = self._with_keys(entry, ledger.keys.values(), ledger.position.segment)
        needed = frozenset(need for task in live for need in task.needs)
        return replace(facts, live=frozenset(task.task_id for task in live), held=facts.held | needed)

    def _looked(self, session_id: str, entry: Entry, facts: SessionFacts | None) -> SessionFacts:
        if facts is None:
            snapshot = self.store.read_snapshot(session_id)
            if snapshot is None:
                raise StorageFailed(f"tasks.json of session {session_id} cannot be read")
            facts = self._with_keys(entry, snapshot.keys, snapshot.journal.segment)
        return look(self.store.path(session_id), facts)

    def _with_keys(self, entry: Entry, keys: Iterable[KeyRecord], segment: int) -> SessionFacts:
        session = entry.session
        valid = [key for key in keys if not self.keys.expired(key)]
        return SessionFacts(
            session_id=session.session_id,
            updated_at=epoch(session.updated_at),
            pinned=session.policy.pinned,
            held=frozenset(key.task_id for key in valid if key.task_id is not None),
            keyed=any(key.is_of_session for key in valid),
            retention=session.policy.retention,
            segment=segment,
        )

    def _forget_expired(self, entry: Entry) -> None:
        if entry.ledger is not None:
            expired = [key.key_hash for key in entry.ledger.keys.values() if self.keys.expired(key)]
            if expired:
                entry.ledger.drop_keys(expired)
                entry.ledger.views.ask()

    async def _carry_out(self, found: Plan, active_at: Mapping[str, float]) -> None:
        for session_id in found.sessions:
            with contextlib.suppress(AgentdError):  # it came to life meanwhile, or the disk refuses: the next time
                if epoch(self.store.entry(session_id).session.updated_at) != active_at[session_id]:
                    continue
                await self.delete_session(session_id, force=False, if_seq=None)
        for step in found.steps:
            with contextlib.suppress(AgentdError):
                await self._prune(step)

    async def _prune(self, step: Step) -> None:
        ledger = await self.store.ledger(step.session_id)
        with ledger.kept():
            await self.stage(ledger, [step.event(self.now())])
            await ledger.views.flush()
            await self.in_thread(carry_out, self.store.path(step.session_id), step)
            if step.segments:
                await self.in_thread(ledger.folder.prune, max(step.segments))
        history = self._histories.get(step.session_id)
        if history is not None:
            for record in step.records:
                history.remove(record.seq)

    async def check(self) -> CheckReport:
        """Verify the store as it is now; reports, changes nothing.

        What is said of a session that changes meanwhile is left out: its files were in motion.
        """
        for ledger in self.store.resident:
            await ledger.views.flush()
        before = {ledger.session.session_id: ledger.seq for ledger in self.store.resident if not ledger.busy}
        report = await self.in_thread(self.store.check)
        still = {
            ledger.session.session_id
            for ledger in self.store.resident
            if not ledger.busy and before.get(ledger.session.session_id) == ledger.seq
        }
        moving = {ledger.session.session_id for ledger in self.store.resident} - still
        findings = tuple(each for each in report.findings if each.session_id not in moving)
        return replace(report, findings=findings)
