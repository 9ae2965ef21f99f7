"""Every request as it was answered, counted."""

from collections.abc import Callable
from time import perf_counter

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from iotflow.lib.errors import CODES
from iotflow.lib.metrics import Counter, Histogram

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
CLASSES = ("", "1xx", "2xx", "3xx", "4xx", "5xx")

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

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
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
        return response
