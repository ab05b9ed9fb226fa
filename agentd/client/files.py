"""What a task wrote, what happened, and a session's artifacts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress

from agentd.client import queries
from agentd.client.calls import Calls, artifact_path, given, session_path, task_path
from agentd.client.streams import EventsPage, OutputChunk, Resumed, ServerEvent, ended_task, output_chunk
from agentd.client.transport import CHUNK_BYTES, decoded
from agentd.errors import RangeNotSatisfiable, SessionNotFound
from agentd.model.output import OutputGrowth, OutputLines, OutputMatches
from agentd.model.requests import ArtifactView, Page, SessionView, Window
from agentd.model.task import Task


class FileCalls(Calls):
    """Output, events, artifacts."""

    # -- output ----------------------------------------------------------------------------------------------------

    async def output(
        self,
        task_id: str,
        *,
        attempt: int | None = None,
        stream: str | None = None,
        start: int | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """The raw output as far as it has been written, in blocks: from byte `start`, or (negative) the last bytes.

        Nothing, when there is nothing at `start` yet.
        """
        headers = {"Accept": "*/*"}
        if start:
            headers["Range"] = f"bytes={start}-" if start > 0 else f"bytes={start}"
        with suppress(RangeNotSatisfiable):
            async with self._transport.exchange(
                "GET", task_path(task_id) + "/output", params=given(attempt=attempt, stream=stream), headers=headers
            ) as answer:
                async for block in answer.content.iter_chunked(CHUNK_BYTES):
                    yield block

    async def output_lines(
        self,
        task_id: str,
        *,
        line: int = 1,
        count: int = 100,
        attempt: int | None = None,
        stream: str | None = None,
        detail: bool = False,
    ) -> OutputLines:
        """A window of lines, from number `line` (1 is the first; negative counts from the end).

        With a `stream` (`out`, `err`) those of it alone; with `detail` when and where each was written.
        """
        params = given(line=line, count=count, attempt=attempt, stream=stream, detail="true" if detail else None)
        return await self._json(OutputLines, "GET", task_path(task_id) + "/output/lines", params=params)

    async def search_output(
        self,
        task_id: str,
        text: str,
        *,
        limit: int | None = None,
        attempt: int | None = None,
        stream: str | None = None,
    ) -> OutputMatches:
        """Lines that hold the text, out of the whole log or stream."""
        params = given(q=text, limit=limit, attempt=attempt, stream=stream)
        return await self._json(OutputMatches, "GET", task_path(task_id) + "/output/search", params=params)

    async def follow_output(
        self, task_id: str, *, attempt: int | None = None, offset: int = 0, retries: bool = True
    ) -> AsyncGenerator[OutputChunk | Task, None]:
        """The output as it comes, from a byte of an attempt (the latest, if none is named) on, and then the task.

        It goes on through later attempts until the task has ended; without `retries`, until that attempt has.
        """
        last_id = f"{attempt}:{offset}" if retries and attempt is not None else None
        params = given(offset=offset) if retries else given(offset=offset, attempt=attempt)
        stream = Resumed(
            self._transport,
            task_path(task_id) + "/stream",
            () if last_id else params,
            last_id=last_id,
            patience_s=self._patience_s,
            on_lost=self._on_lost,
        )
        async with aclosing(stream.events()) as events:
            async for event in events:
                if event.type == "output":
                    yield output_chunk(event)
                elif event.type == "end":
                    task = ended_task(event)
                    if task.terminal or (not retries and _attempt_ended(task, attempt)):
                        yield task
                        return
                    # a daemon that stops ends its streams early; the next one tells the rest

    async def follow_growth(
        self, task_id: str, *, attempt: int | None = None, stream: str | None = None
    ) -> AsyncGenerator[OutputGrowth | Task, None]:
        """How large the output is, as it grows, and then the task.

        It goes on through later attempts until the task has ended; with `attempt`, until that one has.
        """
        resumed = Resumed(
            self._transport,
            task_path(task_id) + "/output/growth",
            given(attempt=attempt, stream=stream),
            patience_s=self._patience_s,
            on_lost=self._on_lost,
        )
        async with aclosing(resumed.events()) as events:
            async for event in events:
                if event.type == "growth":
                    yield decoded(OutputGrowth, event.data, "event growth")
                elif event.type == "end":
                    task = ended_task(event)
                    if task.terminal or (attempt is not None and _attempt_ended(task, attempt)):
                        yield task
                        return
                    # a daemon that stops ends its streams early; the next one tells the rest

    # -- events ----------------------------------------------------------------------------------------------------

    async def events(self, session_id: str, *, after: int = 0, limit: int = 100) -> EventsPage:
        """One page of a session's events, from the one after `after`."""
        params = given(after=after, limit=limit)
        return await self._json(EventsPage, "GET", session_path(session_id) + "/events", params=params)

    async def follow_events(
        self, session_id: str | None = None, *, after: int | str | None = None
    ) -> AsyncGenerator[ServerEvent, None]:
        """Events as they come, of all sessions or of one: those after `after` first, then live.

        `after` is the id of an event: of one session its seq (default 0, all that are kept); of all sessions what
        the stream said (default: from now on; 0 is all that the daemon still has).
        `hello` comes first and again after each reconnect; a `gap` says that some can no longer be told. The stream
        of a session ends when it is deleted.
        """
        path = "/events" if session_id is None else session_path(session_id) + "/events"
        stream = Resumed(
            self._transport,
            path,
            last_id=None if after is None else str(after),
            patience_s=self._patience_s,
            on_lost=self._on_lost,
        )
        begun = False
        try:
            async with aclosing(stream.events()) as events:
                async for event in events:
                    begun = True
                    yield event
                    if session_id is not None and event.type == "session.deleted":
                        return
        except SessionNotFound:
            if not begun:
                raise  # else it was deleted while the stream was lost

    # -- artifacts -------------------------------------------------------------------------------------------------

    async def artifacts(self, session_id: str, *, cursor: str | None = None, limit: int = 100) -> Page[ArtifactView]:
        """One page of a session's artifacts, by path."""
        params = queries.encoded(Window(cursor=cursor, limit=limit))
        return await self._json(Page[ArtifactView], "GET", session_path(session_id) + "/artifacts", params=params)

    def read_artifact(self, session_id: str, path: str) -> AsyncGenerator[bytes, None]:
        """An artifact's bytes, in blocks."""
        return self._blocks(artifact_path(session_id, path))

    async def write_artifact(self, session_id: str, path: str, content: bytes | AsyncIterator[bytes]) -> None:
        """Put an artifact in place, whole or not at all."""
        async with self._transport.exchange(
            "PUT", artifact_path(session_id, path), body=content, content_type="application/octet-stream"
        ):
            pass

    async def delete_artifact(self, session_id: str, path: str) -> None:
        """Remove an artifact."""
        await self._transport.bytes("DELETE", artifact_path(session_id, path))

    # -- whole sessions --------------------------------------------------------------------------------------------

    def export_session(self, session_id: str) -> AsyncGenerator[bytes, None]:
        """The session as one archive, in blocks; Unreachable when it breaks off."""
        return self._blocks(session_path(session_id) + "/export")

    async def _blocks(self, path: str) -> AsyncGenerator[bytes, None]:
        async with self._transport.exchange("GET", path, headers={"Accept": "*/*"}) as answer:
            async for block in answer.content.iter_chunked(CHUNK_BYTES):
                yield block

    async def import_session(self, session_id: str, archive: bytes | AsyncIterator[bytes]) -> SessionView:
        """Make the session of its archive; SessionExists if there is one of this id."""
        async with self._transport.exchange(
            "PUT",
            session_path(session_id) + "/import",
            body=archive,
            content_type="application/x-tar",
            read_s=None,
        ) as answer:
            return decoded(SessionView, await answer.read(), "the session")


def _attempt_ended(task: Task, attempt: int | None) -> bool:
    n = attempt or task.attempt
    return task.attempt > n or any(each.n == n and each.ended_at is not None for each in task.attempts)
