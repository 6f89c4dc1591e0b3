"""The server: one address for pages, serving and health.

Takes a store, a clock and the data plane; returns an ASGI application; promises that every page route
declares who may use it, and that nothing is changed by a request that did not come from its own pages.
"""

from __future__ import annotations

from noria.server.app import create_app
from noria.server.routes import ROUTES, Access, PageRoute

__all__ = ["ROUTES", "Access", "PageRoute", "create_app"]
