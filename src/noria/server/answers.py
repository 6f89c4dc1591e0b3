"""Routes become endpoints: check who asks, make the answer, put the headers on, turn errors into pages."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

from noria.core.clock import Clock
from noria.errors import Conflict, NoriaError, NotFound, RequestError, StoreError
from noria.server.actions import ACTIONS, Form
from noria.server.guard import (
    COOKIE,
    FIELD,
    HEADERS,
    Forbidden,
    Misdirected,
    Tokens,
    TooLarge,
    check_host,
    check_origin,
    read_form,
)
from noria.server.ports import Pages
from noria.server.routes import Access, PageRoute, check_routes
from noria.store.ports import Store

_log = logging.getLogger("noria.server")
_STATUS: tuple[tuple[type[NoriaError], int, str], ...] = (
    (Misdirected, 421, "Wrong address"),
    (Forbidden, 403, "Not allowed"),
    (TooLarge, 413, "Too large"),
    (RequestError, 422, "That cannot be done as asked"),
    (NotFound, 404, "Nothing here"),
    (Conflict, 409, "Not now"),
    (StoreError, 503, "The store does not answer"),
    (NoriaError, 500, "That went wrong"),
)
_TITLES = {404: "Nothing here", 405: "Not that way", 413: "Too large"}
_SPECIALS = frozenset({"health", "static", "artifact", "file", "picture"})
_INERT = "default-src 'none'; sandbox"


class Answers:
    """Makes the pages' ASGI application.

    Args:
        site: the pages.
        store: what actions change.
        clock: stamps the changes.
        tokens: signs forms.
        host: the host the server listens on.
    """

    def __init__(self, site: Pages, store: Store, clock: Clock, tokens: Tokens, host: str) -> None:
        self._site = site
        self._store = store
        self._clock = clock
        self._tokens = tokens
        self._host = host
        self._static = StaticFiles(directory=site.static, follow_symlink=False)

    def application(self, routes: Sequence[PageRoute]) -> Starlette:
        """The application for a table of routes.

        Raises:
            ValueError: a route of the table does not declare its access.
        """
        check_routes(routes, self._site.names(), frozenset(ACTIONS), _SPECIALS)
        found = [Route(r.twin, self._guarded(r, self._json(r)), methods=["GET"]) for r in routes if r.view]
        for route in routes:
            found.append(Route(route.path, self._guarded(route, self._endpoint(route)), methods=[route.method]))
        handlers: dict[Any, Any] = {
            HTTPException: self._http_error,
            NoriaError: self._refusal,
            Exception: self._fault,
        }
        app = Starlette(routes=found, exception_handlers=handlers)
        app.router.redirect_slashes = False
        return app

    def _guarded(self, route: PageRoute, answer: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            check_host(request, self._host)
            if route.access is Access.change:
                check_origin(request)
            response: Response = await answer(request)
            return self._headed(response)

        return endpoint

    def _endpoint(self, route: PageRoute) -> Callable[[Request], Any]:
        if route.view:
            return self._html(route)
        if route.action:
            return self._action(route)
        specials = {
            "health": self._health,
            "static": self._static_file,
            "artifact": self._artifact,
            "file": self._file,
            "picture": self._picture,
        }
        return specials[route.special]

    def _html(self, route: PageRoute) -> Callable[[Request], Any]:
        async def show(request: Request) -> Response:
            cookie, new = self._tokens.cookie(request)
            token = self._tokens.sign(cookie)
            body = await run_in_threadpool(self._site.html, route.view, request.path_params, _query(request), token)
            response = _tagged(request, Response(body, media_type="text/html"))
            if new:
                response.set_cookie(COOKIE, cookie, path="/", httponly=True, samesite="strict")
            return response

        return show

    def _json(self, route: PageRoute) -> Callable[[Request], Any]:
        async def show(request: Request) -> Response:
            body = await run_in_threadpool(self._site.json, route.view, request.path_params, _query(request))
            return _tagged(request, Response(body, media_type="application/json"))

        return show

    def _action(self, route: PageRoute) -> Callable[[Request], Any]:
        async def act(request: Request) -> Response:
            fields = await read_form(request)
            self._tokens.check(request, fields.pop(FIELD, ""))
            form = Form(self._store, self._clock, request.path_params, fields)
            return RedirectResponse(await run_in_threadpool(ACTIONS[route.action], form), status_code=303)

        return act

    async def _health(self, request: Request) -> Response:
        return PlainTextResponse("OK")

    async def _static_file(self, request: Request) -> Response:
        return await self._static.get_response(request.path_params["path"], request.scope)

    async def _artifact(self, request: Request) -> Response:
        name, body = await run_in_threadpool(self._site.artifact, request.path_params)
        return Response(body, media_type="application/octet-stream", headers=_download(name))

    async def _file(self, request: Request) -> Response:
        name, size, pieces = await run_in_threadpool(self._site.file, request.path_params)
        headers = {**_download(name), "content-length": str(size)}
        if request.method == "HEAD":
            return Response(media_type="application/octet-stream", headers=headers)
        return StreamingResponse(pieces, media_type="application/octet-stream", headers=headers)

    async def _picture(self, request: Request) -> Response:
        kind, body = await run_in_threadpool(self._site.picture, request.path_params)
        headers = {"content-disposition": "inline", "content-security-policy": _INERT}
        return _tagged(request, Response(body, media_type=kind, headers=headers))

    def _headed(self, response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("cache-control", "private, no-cache")
        return response

    def _problem(self, request: Request, status: int, title: str, sentence: str, details: list[Any]) -> Response:
        if _wants_json(request):
            body: dict[str, Any] = {"error": sentence}
            if details:
                body["details"] = details
            response = Response(orjson.dumps(body), status, media_type="application/json")
        else:
            response = Response(self._site.problem(status, title, sentence, details), status, media_type="text/html")
        return self._headed(response)

    async def _refusal(self, request: Request, error: NoriaError) -> Response:
        status, title = next((code, words) for kind, code, words in _STATUS if isinstance(error, kind))
        if status >= 500:
            _log.error("%s %s: %s", request.method, request.url.path, error)
        sentence = str(error) if status != 503 else _without_paths(error)
        details = list(error.details) if isinstance(error, RequestError) else []
        return self._problem(request, status, title, sentence, details)

    async def _http_error(self, request: Request, error: HTTPException) -> Response:
        try:
            check_host(request, self._host)
        except Misdirected as misdirected:
            return await self._refusal(request, misdirected)
        title = _TITLES.get(error.status_code, "That did not work")
        sentence = {
            404: f"There is no page at {request.url.path[:200]}.",
            405: f"{request.method} is not possible here.",
        }.get(error.status_code, str(error.detail))
        response = self._problem(request, error.status_code, title, sentence, [])
        for name, value in (error.headers or {}).items():
            response.headers.setdefault(name, value)
        return response

    async def _fault(self, request: Request, error: Exception) -> Response:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return self._problem(request, 500, "That went wrong", "The server failed to answer; its log says why.", [])


def _download(name: str) -> dict[str, str]:
    """Headers of what is saved as a file and never shown."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".") or "artifact"
    whole = f"; filename*=UTF-8''{quote(name, safe='')}" if name != plain else ""
    return {
        "content-disposition": f'attachment; filename="{plain}"{whole}',
        "content-security-policy": _INERT,
    }


def _without_paths(error: NoriaError) -> str:
    """What a store's trouble is, without naming files of this machine."""
    return f"The store cannot give or take what was asked ({type(error).__name__}). The server's log says why."


def _query(request: Request) -> dict[str, list[str]]:
    return {name: request.query_params.getlist(name) for name in request.query_params}


def _wants_json(request: Request) -> bool:
    return request.url.path.endswith(".json") or "text/html" not in request.headers.get("accept", "")


def _tagged(request: Request, response: Response) -> Response:
    """The response with its tag, or "not modified" when the client has it already."""
    tag = f'"{hashlib.blake2b(response.body, digest_size=12).hexdigest()}"'
    if request.headers.get("if-none-match") == tag:
        response = Response(status_code=304)
    response.headers["etag"] = tag
    return response
