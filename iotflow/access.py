"""Every request as it was answered: counted, and a line in the log where ACCESS_LOG asks for it."""

import logging
from collections.abc import Callable
from time import perf_counter
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from iotflow.lib import tracing
from iotflow.lib.address import DEVICE, client_address
from iotflow.lib.errors import CODES
from iotflow.lib.metrics import Counter, Histogram

logger = logging.getLogger("iotflow.access")
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
CLASSES = ("", "1xx", "2xx", "3xx", "4xx", "5xx")
PATH_MAX = 200

REQUESTS = Histogram(
    "iotflow_request_seconds",
    "How long requests took until the answer began, by the pattern of their path.",
    ("method", "route", "status"),
)
REJECTED = Counter(
    "iotflow_requests_rejected_total", "Requests that were refused or failed.", ("reason",)
)


class Access:
    """Middleware, before all others: what they answer is counted too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self._log = {"all": 0, "errors": 500, "off": 1000}[settings.ACCESS_LOG]

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with tracing.request_span(request.META) as span:
            return self._counted(request, span)

    def _counted(self, request: HttpRequest, span: Any) -> HttpResponseBase:
        started = perf_counter()
        response = self.get_response(request)
        seconds = perf_counter() - started
        status = response.status_code
        method = request.method if request.method in METHODS else "OTHER"
        match = request.resolver_match
        route = match.route if match else "none"
        REQUESTS.observe(seconds, method, route, CLASSES[status // 100])
        if status >= 400:
            REJECTED.add(CODES.get(status, "error"))
        if status >= self._log:
            _log(request, response, route, seconds)
        if span is not None:
            tracing.describe(span, method, route, status, response.headers.get("X-Request-ID", ""))
        return response


def _log(request: HttpRequest, response: HttpResponseBase, route: str, seconds: float) -> None:
    """Its path without the query, which may hold what is nobody's business."""
    fields = {
        "request_id": response.headers.get("X-Request-ID", ""),
        "method": request.method,
        "route": route,
        "path": request.path[:PATH_MAX],
        "status": response.status_code,
        "milliseconds": round(1000 * seconds, 1),
        "address": client_address(request),
        "device_id": request.META.get(DEVICE),
    }
    logger.info("%(method)s %(path)s %(status)d %(milliseconds).1f ms", fields, extra=fields)
