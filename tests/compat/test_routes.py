"""The table of routes: whole, documented, and declared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from noria.compat.mlflow import ROUTES
from noria.compat.mlflow.app import Table
from noria.compat.mlflow.errors import WireError
from noria.compat.mlflow.routing import Need
from noria.compat.mlflow.table import document

HERE = Path(__file__).parent
REFERENCE = [
    (method, re.sub(r"<(?:path:)?\w+>", "x", path))
    for methods, path in (line.split() for line in (HERE / "reference_routes.txt").read_text().splitlines())
    for method in methods.split("/")
]
"""Methods and paths of ``mlflow server`` 3.17."""


@pytest.mark.parametrize(("method", "path"), REFERENCE)
def test_every_route_of_the_reference_server_is_known(method: str, path: str) -> None:
    Table(ROUTES).find(method, path)


def test_an_unknown_route_is_not_found_and_a_wrong_method_is_said() -> None:
    table = Table(ROUTES)
    with pytest.raises(WireError) as caught:
        table.find("GET", "/api/2.0/mlflow/nothing")
    assert (caught.value.code, caught.value.status) == ("ENDPOINT_NOT_FOUND", 404)
    with pytest.raises(WireError) as caught:
        table.find("DELETE", "/api/2.0/mlflow/runs/create")
    assert caught.value.status == 405


def test_every_route_says_what_it_needs_and_does_one_thing() -> None:
    for route in ROUTES:
        assert isinstance(route.need, Need), route
        assert sum(map(bool, (route.answer, route.change, route.stream, route.refused))) == 1, route
        if route.method == "GET":
            assert route.need is Need.read, route
        if route.method == "DELETE":
            assert route.need is not Need.read or route.refused, route


def test_the_documentation_lists_the_routes_as_they_are() -> None:
    written = (HERE.parent.parent / "docs" / "mlflow.md").read_text(encoding="utf-8")
    assert written == document(), "run: python -m noria.compat.mlflow.table > docs/mlflow.md"
