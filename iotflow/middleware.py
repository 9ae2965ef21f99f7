"""What has to hold before any view runs, and when one fails."""

import logging
from collections.abc import Callable
from contextlib import suppress

from django.conf import settings
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.shortcuts import render

from iotflow.lib.address import is_trusted_proxy
from iotflow.lib.errors import (
    StoreAway,
    as_store_away,
    error_response,
    plain_error,
    store_away_response,
)

logger = logging.getLogger(__name__)
DRAIN_BYTES = 32 * 1024 * 1024
CHUNK = 64 * 1024
BODILESS = ("GET", "HEAD", "OPTIONS")


class ApiErrors:
    """No error under /api/ is a page, such as Django shows while DEBUG is on."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        is_page = response.headers.get("Content-Type", "").startswith("text/html")
        if is_page and response.status_code >= 400 and is_api(request):
            return plain_error(response.status_code)
        return response


class TrustedScheme:
    """Only a trusted proxy may say that the client spoke HTTPS to it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not is_trusted_proxy(request.META.get("REMOTE_ADDR", "")):
            request.META.pop("HTTP_X_FORWARDED_PROTO", None)
        return self.get_response(request)


class RequestGuard:
    """Bounds a request, and turns the absence of a store into a 503 everywhere.

    The body is read before anything is decided by it or about it: between what a key may do and
    what is done with it lies no waiting for a slow client.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "%00" in request.META.get("QUERY_STRING", ""):
            return error_response(
                400, "The query holds a NUL character.", {"query": ["Remove %00."]}
            )
        if _content_length(request) > settings.MAX_BODY_BYTES:
            return self._too_large(request)
        if request.method not in BODILESS:
            try:
                _ = request.body
            except UnreadablePostError:
                return plain_error(400)  # to nobody: the client has gone
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        away = as_store_away(error)
        if away is None and _is_of_mongodb(error):
            logger.warning("the event log did not answer: %s", error)
            away = StoreAway("The event log")
        if away is None:
            return None
        if is_api(request):
            return store_away_response(away)
        response = render(request, "503.html", {"store": away.store}, status=503)
        response["Retry-After"] = str(away.retry_after)
        return response

    def _too_large(self, request: HttpRequest) -> HttpResponse:
        """413. The body is read to a bound: a client that is still sending would see a reset."""
        left = DRAIN_BYTES
        with suppress(UnreadablePostError):
            while left > 0 and (chunk := request.read(CHUNK)):
                left -= len(chunk)
        limit = settings.MAX_BODY_BYTES
        return error_response(
            413, f"The body has more than {limit} bytes.", {"body": [f"At most {limit} bytes."]}
        )


def _is_of_mongodb(error: Exception) -> bool:
    """A driver's error, bare or wrapped by Django's backend; what reads events raises either."""
    causes = (error, error.__cause__)
    return any(type(cause).__module__.startswith("pymongo") for cause in causes)


def is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith("/api/")


def _content_length(request: HttpRequest) -> int:
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0
