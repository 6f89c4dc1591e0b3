"""The one table of page routes. A route that does not say who may use it is refused at start."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Access(Enum):
    """What a route needs.

    There are no users yet: the server listens on loopback only, and both kinds are open to whoever sits at
    this machine. ``change`` needs besides that the request comes from one of our own pages.
    """

    read = "read"
    change = "change"


@dataclass(frozen=True, slots=True)
class PageRoute:
    """One address.

    Attributes:
        path: with parameters in braces.
        access: what it needs; there is no default that lets anybody in.
        view: name of the view of the pages it shows, which also has a ``.json`` twin ...
        action: ... or of the change it makes ...
        special: ... or of an answer of the server's own.
    """

    path: str
    access: Access | None = None
    view: str = ""
    action: str = ""
    special: str = ""

    @property
    def method(self) -> str:
        """The HTTP method (``GET`` also answers ``HEAD``)."""
        return "POST" if self.access is Access.change else "GET"

    @property
    def twin(self) -> str:
        """Address of the JSON twin."""
        return f"{self.path}.json"


READ, CHANGE = Access.read, Access.change

ROUTES: tuple[PageRoute, ...] = (
    PageRoute("/", READ, view="home"),
    PageRoute("/audit", READ, view="audit"),
    PageRoute("/health", READ, special="health"),
    PageRoute("/static/{path:path}", READ, special="static"),
    PageRoute("/experiments", READ, view="experiments"),
    PageRoute("/experiments/{id}", READ, view="experiment"),
    PageRoute("/runs/compare", READ, view="tracked_compare"),
    PageRoute("/runs/{id}", READ, view="tracked"),
    PageRoute("/runs/{id}/artifact", READ, view="file"),
    PageRoute("/runs/{id}/artifacts/{name:path}", READ, special="file"),
    PageRoute("/runs/{id}/pictures/{name:path}", READ, special="picture"),
    PageRoute("/models", READ, view="registered"),
    PageRoute("/models/{name}", READ, view="registered_model"),
    PageRoute("/models/{name}/{version}", READ, view="registered_version"),
    PageRoute("/loops/{loop}", READ, view="loop"),
    PageRoute("/loops/{loop}/runs", READ, view="runs"),
    PageRoute("/loops/{loop}/runs/{id}", READ, view="run"),
    PageRoute("/loops/{loop}/runs/{id}/artifacts/{name:path}", READ, special="artifact"),
    PageRoute("/loops/{loop}/compare", READ, view="compare"),
    PageRoute("/loops/{loop}/models", READ, view="models"),
    PageRoute("/loops/{loop}/models/{version}", READ, view="model"),
    PageRoute("/loops/{loop}/models/{version}/decision", CHANGE, action="decide"),
    PageRoute("/loops/{loop}/monitoring", READ, view="monitoring"),
    PageRoute("/loops/{loop}/predictions", READ, view="predictions"),
    PageRoute("/loops/{loop}/predictions/{id}", READ, view="prediction"),
    PageRoute("/loops/{loop}/data", READ, view="data"),
    PageRoute("/loops/{loop}/data/{id}", READ, view="dataset"),
    PageRoute("/loops/{loop}/turns", READ, view="turns"),
    PageRoute("/loops/{loop}/turns", CHANGE, action="order_turn"),
    PageRoute("/loops/{loop}/turns/{id}", READ, view="turn"),
)


def check_routes(
    routes: Iterable[PageRoute], views: frozenset[str], actions: frozenset[str], specials: frozenset[str]
) -> None:
    """Refuse a table with a route that declares no access or leads nowhere.

    Raises:
        ValueError: names the route.
    """
    for route in routes:
        if not isinstance(route.access, Access):
            raise ValueError(f"Route {route.path} does not declare its access.")
        if bool(route.action) != (route.access is Access.change):
            raise ValueError(f"Route {route.path}: what changes something needs Access.change, and only that.")
        known = {"view": views, "action": actions, "special": specials}
        named = [(kind, name) for kind in known if (name := getattr(route, kind))]
        if len(named) != 1:
            raise ValueError(f"Route {route.path} must name one view, action or special answer.")
        kind, name = named[0]
        if name not in known[kind]:
            raise ValueError(f"Route {route.path} names the unknown {kind} '{name}'.")
