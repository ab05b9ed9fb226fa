"""How a run of a workflow goes, told on stderr: a line for each change of a step."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import click

from agentd.cli.patience import Patience
from agentd.cli.printing import notice
from agentd.cli.wording import printable
from agentd.errors import AgentdError
from agentd.model.run import RunState
from agentd.model.run_views import RunView, StepState

if TYPE_CHECKING:
    from agentd.client import Client

#: At least this long between two looks at a run.
TICK_S = 0.2
_QUIET = (StepState.WAITING, StepState.QUEUED)  #: not worth a line


async def followed(agent: Client, run: RunView) -> RunView:
    """Tell how the steps go until the run has ended, and then how. A daemon that restarts meanwhile is waited for."""
    run_id, session_id = run.run_id, run.session_id
    stir, patience = asyncio.Event(), Patience(agent, told=True)  # the stream of events says that it is away
    listening = asyncio.create_task(_listen(agent, run, stir))
    told: dict[str, StepState] = {}
    held: str | None = None
    try:
        while True:
            stir.clear()
            run = await patience.kept(lambda: agent.workflow_run(run_id, session_id))
            await _tell(agent, run, told)
            if run.held != held and run.held is not None:
                notice(f"held back: {run.held}")
            held = run.held
            if run.state is not RunState.RUNNING:
                break
            await asyncio.sleep(TICK_S)
            ring = asyncio.create_task(stir.wait())
            await asyncio.wait({ring, listening}, return_when=asyncio.FIRST_COMPLETED)
            ring.cancel()
            if listening.done():
                listening.result()  # raises why nothing is heard any more
    except asyncio.CancelledError:
        notice(f"run {run.run_id} goes on; `agentd workflow show {run.run_id}` tells, `agentd workflow cancel` ends it")
        raise
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    why = f": {run.reason}" if run.reason else f" at {', '.join(run.where[:10])}" if run.where else ""
    notice(f"run {run.run_id} {run.state}{printable(why)}")
    if run.state is not RunState.COMPLETED:
        notice(f"`agentd workflow resume {run.run_id}` goes on from there")
    return run


async def _listen(agent: Client, run: RunView, stir: asyncio.Event) -> None:
    async with aclosing(agent.follow_events(run.session_id, after=run.seq)) as events:
        async for _ in events:
            stir.set()


async def _tell(agent: Client, run: RunView, told: dict[str, StepState]) -> None:
    for step in run.steps if isinstance(run.steps, tuple) else ():
        if step.state is told.get(step.id) or step.state in _QUIET:
            continue
        told[step.id] = step.state
        why = step.reason or ""
        if step.state in (StepState.FAILED, StepState.INTERRUPTED) and step.task_id is not None:
            with suppress(AgentdError):
                task = await agent.task(step.task_id)
                why = task.cause.message if task.cause is not None else ""
            why += f" (agentd logs {step.task_id})"
        click.echo(printable(f"{step.id}  {step.state}" + (f"  {why}" if why else "")), err=True)
        for refusal in step.refused:
            click.echo(printable(f"{step.id}  {refusal}"), err=True)
