"""Asks the application for pages in-process, and reads what comes back as a browser would."""

from __future__ import annotations

import asyncio
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import httpx

from noria.server.app import ASGIApp

VOID = {"meta", "link", "img", "input", "br", "hr"}
SHAPES = {"path", "circle", "rect", "line", "polyline"}


def ask(app: ASGIApp, path: str, method: str = "GET", **more: Any) -> httpx.Response:
    """One request to the application, as a browser on this machine would send it."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            headers = {"accept": "text/html", **more.pop("headers", {})}
            return await client.request(method, path, headers=headers, **more)

    return asyncio.run(send())


class Page(HTMLParser):
    """A page's tags, with a note of every tag left open or closed twice."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.faults: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.faults += [f"<{tag}> is never closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing near {self.getpos()}")

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def tags(self, *names: str) -> list[dict[str, str]]:
        """Attributes of every tag with one of these names."""
        return [attributes for tag, attributes in self.found if tag in names]

    def repeated_ids(self) -> list[str]:
        """Ids that more than one tag has."""
        counts = Counter(attributes["id"] for _, attributes in self.found if "id" in attributes)
        return [name for name, count in counts.items() if count > 1]
