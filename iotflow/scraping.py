"""`GET /metrics`: for whoever has the token, or asks from this machine where that is enough."""

from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.csrf import csrf_exempt
from prometheus_client import CONTENT_TYPE_LATEST

from iotflow import exposition
from iotflow.lib.errors import error_response, plain_error

FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP")


@csrf_exempt
def metrics(request: HttpRequest) -> HttpResponse:
    """404 to whom no token would help, 401 to whom one is missing."""
    if not _may_scrape(request):
        return _refusal() if settings.METRICS_TOKEN else plain_error(404)
    if request.method not in ("GET", "HEAD"):
        refusal = error_response(405, f"{request.method} is not allowed here.")
        refusal["Allow"] = "GET, HEAD"
        return refusal
    return HttpResponse(exposition.text(), content_type=CONTENT_TYPE_LATEST)


def _may_scrape(request: HttpRequest) -> bool:
    if settings.METRICS_LOOPBACK and _is_local(request):
        return True
    said = request.META.get("HTTP_AUTHORIZATION", "")
    token = settings.METRICS_TOKEN
    return bool(token) and constant_time_compare(said, f"Bearer {token}")


def _is_local(request: HttpRequest) -> bool:
    """From this machine, and not passed on by a proxy on it for somebody else."""
    try:
        is_loopback = ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False
    return is_loopback and not any(name in request.META for name in FORWARDED)


def _refusal() -> HttpResponse:
    refusal = error_response(401, "Send the scrape token: Authorization: Bearer …")
    refusal["WWW-Authenticate"] = "Bearer"
    return refusal
