"""What people do: forms and the POSTs behind them, each answered by a way back to the truth."""

from webui.actions import artifacts, care, new_session, new_task, replies, sessions, tasks, workers, workflows
from webui.routes import Route

#: (method, path, handler) of each.
ROUTES: tuple[Route, ...] = (
    *artifacts.ROUTES,
    *care.ROUTES,
    *new_session.ROUTES,
    *new_task.ROUTES,
    *replies.ROUTES,
    *sessions.ROUTES,
    *tasks.ROUTES,
    *workers.ROUTES,
    *workflows.ROUTES,
)
