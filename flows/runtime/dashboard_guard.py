"""Dask scheduler preload (`--preload flows.runtime.dashboard_guard`): Dask's pages ask for PREFECT_API_AUTH_STRING.

Dask's own would show anybody what runs, and with which errors. Only `/health` answers without it.
"""

from __future__ import annotations

import base64
import hmac
import os
from typing import Any

from distributed import Scheduler
from tornado.httputil import HTTPServerRequest
from tornado.web import RequestHandler

from flows.runtime.api_guard import LOOPBACK, is_ours

OPEN = "/health"


class Refusal(RequestHandler):
    """What is answered instead."""

    def initialize(self, status: int) -> None:
        self._status = status

    def prepare(self) -> None:
        self.set_status(self._status)
        if self._status == 401:
            self.set_header("WWW-Authenticate", 'Basic realm="Reelflow"')
        self.finish("Set PREFECT_API_AUTH_STRING and use it to sign in.\n" if self._status == 401 else "")


def dask_setup(scheduler: Scheduler) -> None:
    """Called by Dask when the scheduler starts."""
    auth = os.environ.get("PREFECT_API_AUTH_STRING", "")
    application: Any = scheduler.http_application
    found = application.find_handler

    def guarded(request: HTTPServerRequest, **more: Any) -> Any:
        if refused := refusal(request, auth):
            return application.get_handler_delegate(request, Refusal, {"status": refused})
        return found(request, **more)

    application.find_handler = guarded


def refusal(request: HTTPServerRequest, auth: str) -> int | None:
    """The status that a request is refused with, None where it is let in."""
    if request.path == OPEN:
        return None
    if not is_ours(request.headers.get_list("Host"), request.headers.get_list("Origin"), LOOPBACK):
        return 403
    wanted = f"Basic {base64.b64encode(auth.encode()).decode()}"
    given = request.headers.get("Authorization", "")
    return None if auth and hmac.compare_digest(given.encode(), wanted.encode()) else 401
