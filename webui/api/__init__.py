"""JSON for other front ends: the agents' own endpoints, and their lists as one."""

from webui.api import events, lists, proxy
from webui.routes import Route

#: (method, path, handler) of each.
ROUTES: tuple[Route, ...] = (
    *events.ROUTES,
    *lists.ROUTES,
    *proxy.ROUTES,
)
