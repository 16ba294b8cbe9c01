"""The explorer as an ASGI application: three pages, the API behind them, and their scripts and styles."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from flows.explorer.api import Api, Find
from flows.explorer.guard import Guard
from tasks.core.errors import (
    CredentialsRefused,
    PermissionDenied,
    ReelflowError,
    SourceChanged,
    SourceNotFound,
    TransientError,
    UnsupportedSource,
)
from tasks.core.publish import report
from tasks.store import Store

_HERE: Final = Path(__file__).parent
_HOUSE_STYLE: Final = Path(inspect.getfile(report)).with_name("report.css")
"""The look that reports have; the explorer's own style adds to it."""

_REFRESHED: Final = {"cache-control": "no-cache"}
_HTML: Final = "text/html; charset=utf-8"

_STATUS: Final[tuple[tuple[type[ReelflowError], int], ...]] = (
    (SourceNotFound, 404),
    (SourceChanged, 409),
    (UnsupportedSource, 415),
    (PermissionDenied, 502),
    (CredentialsRefused, 502),
    (TransientError, 503),
)


def create_app(
    store: Store,
    find: Find,
    *,
    host: str = "127.0.0.1",
    token: str | None = None,
    names: Iterable[str] = (),
    runs_url: str | None = None,
) -> Guard:
    """The application.

    `find` answers a query with moments, best first. `host` is the address that the server will be bound to: one that
    other machines reach needs a `token`. `names` are host names besides `host` and localhost that browsers may use,
    `runs_url` is the address of a Prefect UI to link to. Raises ValueError for a missing or short token.
    """
    api = Api(store, find, runs_url)
    routes = [
        Route("/", lambda _: _page("search.html")),
        Route("/alerts", lambda _: _page("alerts.html")),
        Route("/media/{media_id}", partial(_media_page, api)),
        Route("/api/search", api.search),
        Route("/api/alerts", api.alerts),
        Route("/api/alerts/{alert_id}/picture", api.alert_picture),
        Route("/api/visits", api.visits),
        Route("/api/media", api.newest),
        Route("/api/media/{media_id}", api.media),
        Route("/api/media/{media_id}/source", api.source),
        Route("/api/media/{media_id}/clips/{number:int}", api.clip),
        Route("/api/media/{media_id}/picture", api.picture),
        Route("/api/media/{media_id}/frame", api.frame),
        Route("/api/media/{media_id}/files/{name}", api.file),
        Route("/static/house.css", lambda _: FileResponse(_HOUSE_STYLE, headers=_REFRESHED, media_type="text/css")),
        Mount("/static", _Static(directory=_HERE / "static")),
    ]
    handlers = {HTTPException: _refused, ReelflowError: _failed, Exception: _broken}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), host=host, token=token, names=names)


class _Static(StaticFiles):
    """Files that a browser asks for again each time: most answers are 304."""

    def file_response(self, *arguments: Any, **named: Any) -> Response:
        answer = super().file_response(*arguments, **named)
        answer.headers.update(_REFRESHED)
        return answer


def _page(name: str, status: int = 200) -> Response:
    return FileResponse(_HERE / "pages" / name, status, _REFRESHED, _HTML)


def _media_page(api: Api, request: Request) -> Response:
    return _page("media.html") if api.is_known(request) else _page("missing.html", 404)


def _refused(request: Request, error: Exception) -> Response:
    refusal = cast(HTTPException, error)
    if refusal.status_code == 404 and not request.url.path.startswith("/api/"):
        return _page("missing.html", 404)
    return JSONResponse({"error": refusal.detail}, refusal.status_code, refusal.headers)


def _failed(_: Request, error: Exception) -> Response:
    failure = cast(ReelflowError, error)
    status = next((status for kind, status in _STATUS if isinstance(failure, kind)), 500)
    return JSONResponse({"error": failure.message, "code": failure.code}, status)


def _broken(request: Request, error: Exception) -> Response:
    logging.getLogger(__name__).error("%s failed", request.url.path, exc_info=error)
    return JSONResponse({"error": "The explorer failed; its terminal says why."}, 500)
