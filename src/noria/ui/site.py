"""The pages as one object: a view's name and a question in, bytes out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from noria.core.clock import Clock
from noria.store.ports import Store
from noria.ui import draw
from noria.ui.ask import Ask, href
from noria.ui.format import FILTERS
from noria.ui.pages import files
from noria.ui.pages.runs import artifact
from noria.ui.traffic import RememberedActivity, RememberedCounts
from noria.ui.views import VIEWS

HERE = Path(__file__).parent
T = TypeVar("T")


class Site:
    """Answers for every view.

    Args:
        store: what is shown; only read.
        clock: says what "now" is on the pages.
    """

    static = HERE / "static"

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._counts = RememberedCounts(store.predictions)
        self._activity = RememberedActivity()
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= FILTERS
        self._templates.globals |= {"href": href, "draw": draw}

    def names(self) -> frozenset[str]:
        """Every view there is."""
        return frozenset(VIEWS)

    def html(self, view: str, path: Mapping[str, str], query: Mapping[str, list[str]], token: str) -> bytes:
        """The page as HTML; ``token`` goes into its forms.

        Raises:
            NotFound: the address names nothing.
            RequestError: the query is wrong.
        """
        chosen = VIEWS[view]
        page, now = self._make(view, path, query)
        return self._draw(
            chosen.template,
            page=page,
            now=now,
            token=token,
            tab=chosen.tab,
            live=chosen.live,
            charts=chosen.charts,
            loop_name=path.get("loop"),
        )

    def json(self, view: str, path: Mapping[str, str], query: Mapping[str, list[str]]) -> bytes:
        """The page's values as JSON.

        Raises:
            NotFound: the address names nothing.
            RequestError: the query is wrong.
        """
        page, _ = self._make(view, path, query)
        return msgspec.json.encode(page)

    def artifact(self, path: Mapping[str, str]) -> tuple[str, bytes]:
        """Name and bytes of a run's file.

        Raises:
            NotFound: there is no such run or file.
        """
        return self._asked(artifact, path, {})

    def file(self, path: Mapping[str, str]) -> tuple[str, int, Iterator[bytes]]:
        """Name, size and bytes of a tracked run's artifact.

        Raises:
            NotFound: there is no such run or artifact.
        """
        return self._asked(files.download, path, {})

    def picture(self, path: Mapping[str, str]) -> tuple[str, bytes]:
        """Type and bytes of an artifact that is a picture made of pixels.

        Raises:
            NotFound: there is no such run or artifact, or it is no such picture.
        """
        return self._asked(files.picture, path, {})

    def problem(self, status: int, title: str, sentence: str, details: list[Any]) -> bytes:
        """A page that says what went wrong."""
        lines = [line if isinstance(line, str) else json.dumps(line, default=str) for line in details]
        return self._draw(
            "problem.html",
            page={"title": title},
            status=status,
            sentence=sentence,
            details=lines,
            tab="",
            live=False,
            charts=False,
            loop_name=None,
            token="",
            now=self._clock.now(),
        )

    def _make(self, view: str, path: Mapping[str, str], query: Mapping[str, list[str]]) -> tuple[Any, Any]:
        return self._asked(lambda ask: (VIEWS[view].make(ask), ask.now), path, query)

    def _asked(self, make: Callable[[Ask], T], path: Mapping[str, str], query: Mapping[str, list[str]]) -> T:
        now = self._clock.now()
        with self._store.ledger.read() as db, self._store.tracking.read() as tracked:
            kept = self._store
            return make(Ask(db, self._counts, kept.blobs, now, tracked, self._activity, kept.predictions, path, query))

    def _draw(self, template: str, **values: Any) -> bytes:
        return self._templates.get_template(template).render(**values).encode("utf-8")
