"""What people see: one module a page, each a function from a visit to its model."""

from webui.pages import agents, analytics, history, log, preview, queue, run, session, sessions, settings, task, workers
from webui.routes import Route

#: (method, path, handler) of each.
ROUTES: tuple[Route, ...] = (
    *agents.ROUTES,
    *analytics.ROUTES,
    *history.ROUTES,
    *log.ROUTES,
    *preview.ROUTES,
    *queue.ROUTES,
    *run.ROUTES,
    *session.ROUTES,
    *sessions.ROUTES,
    *settings.ROUTES,
    *task.ROUTES,
    *workers.ROUTES,
)
