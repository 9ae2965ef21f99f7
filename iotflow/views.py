"""The front page, health and status, and what Django answers by itself."""

from typing import Any

from django.contrib import admin
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.renderers import (
    OpenApiJsonRenderer,
    OpenApiJsonRenderer2,
    OpenApiYamlRenderer,
    OpenApiYamlRenderer2,
)
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import StaffSession, TokenAuthentication
from accounts.permissions import IsStaff
from iotflow import __version__, health, readiness, stats
from iotflow.lib.errors import Error, error_body, error_response, plain_error
from iotflow.lib.fields import Instant
from iotflow.lib.pagination import flag
from iotflow.lib.timeparse import format_ms, now_ms
from iotflow.middleware import is_api
from iotflow.schema import document

ENDPOINTS = {
    "register a user": "POST /api/v1/auth/register",
    "log in": "POST /api/v1/auth/login",
    "register a device": "POST /api/v1/devices/register",
    "submit telemetry": "POST /api/v1/telemetry",
    "history": "GET /api/v1/telemetry/{device_id}",
    "latest values": "GET /api/v1/telemetry/{device_id}/latest",
    "health": "GET /health",
    "schema": "GET /api/schema",
}
HEALTH_MESSAGES = {
    "healthy": "Every store answers.",
    "degraded": "Readings are stored; a store is away and what needs it is slower or waits.",
    "unhealthy": "Readings cannot be stored now.",
}
HEALTH_STATES = list(HEALTH_MESSAGES)
STORE_STATES = ["up", "down"]


@csrf_exempt
def front(request: HttpRequest) -> HttpResponse:
    """A page for a browser; the endpoints for a client that asks for JSON, or under /api/."""
    if request.method not in ("GET", "HEAD"):
        refusal = error_response(405, f"{request.method} is not allowed here.")
        refusal["Allow"] = "GET, HEAD"
        return refusal
    facts = {"name": "IoTFlow", "version": __version__, "endpoints": ENDPOINTS, "docs": "/api/docs"}
    if not is_api(request) and "text/html" in request.headers.get("Accept", ""):
        response: HttpResponse = render(request, "front.html", facts)
    else:
        response = JsonResponse(facts)
    response["Vary"] = "Accept"
    return response


def is_staff(request: Request) -> bool:
    """Whether staff ask; anything wrong with their proof, or its store away, makes them nobody."""
    for authentication in (TokenAuthentication(), StaffSession()):
        try:
            found = authentication.authenticate(request)
        except (APIException, DatabaseError):
            continue
        if found is not None:
            return bool(found[0].is_staff)
    return False


class StoreHealth(serializers.Serializer[Any]):
    """`version` and `latency_ms` for staff only; of a store that is away they are unknown."""

    status = serializers.ChoiceField(choices=STORE_STATES)
    version = serializers.CharField(required=False)
    latency_ms = serializers.FloatField(required=False, allow_null=True)


class Health(serializers.Serializer[Any]):
    """`stores` with `detailed`; for staff also the age of the oldest waiting event."""

    status = serializers.ChoiceField(choices=HEALTH_STATES)
    message = serializers.CharField()
    version = serializers.CharField()
    stores = serializers.DictField(child=StoreHealth(), required=False)
    outbox_seconds = serializers.FloatField(required=False, allow_null=True)


class Probed(serializers.Serializer[Any]):
    status = serializers.CharField()
    version = serializers.CharField()


class SystemStatus(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=HEALTH_STATES)
    message = serializers.CharField()
    version = serializers.CharField()
    time = Instant()
    stores = serializers.DictField(child=serializers.ChoiceField(choices=STORE_STATES))


@extend_schema(exclude=True)
class SchemaView(APIView):
    """OpenAPI as JSON, or as YAML for a client that asks for it."""

    authentication_classes = []
    permission_classes = []
    renderer_classes = [
        OpenApiJsonRenderer2,
        OpenApiJsonRenderer,
        OpenApiYamlRenderer,
        OpenApiYamlRenderer2,
    ]

    def get(self, request: Request) -> Response:
        return Response(document())


class HealthView(APIView):
    authentication_classes = []
    permission_classes = []
    throttle_classes = []

    @extend_schema(
        auth=[{}, {"userToken": []}, {"staffSession": []}],  # type: ignore[list-item]
        parameters=[
            OpenApiParameter(
                "detailed", bool, description="Ask every store too; versions and times for staff."
            )
        ],
        responses={200: Health, 503: Health},
    )
    def get(self, request: Request) -> Response:
        """Whether this process lives; with `detailed`, whether every store answers."""
        if not flag(request, "detailed", False):
            return Response(
                {"status": "healthy", "message": "IoTFlow is running.", "version": __version__}
            )
        state = health.check()
        with_details = is_staff(request)
        body: dict[str, Any] = {
            "status": state.status,
            "message": HEALTH_MESSAGES[state.status],
            "version": __version__,
            "stores": {name: store.body(with_details) for name, store in state.stores.items()},
        }
        if with_details:
            body["outbox_seconds"] = state.outbox_seconds
        if state.can_write:
            return Response(body)
        return Response(body, status=503, headers={"Retry-After": "1"})


class LiveView(APIView):
    authentication_classes = []
    permission_classes = []
    throttle_classes = []

    @extend_schema(responses=Probed)
    def get(self, request: Request) -> Response:
        """Whether this process lives; no store is asked. What does not answer is started anew."""
        return Response({"status": "alive", "version": __version__})


class ReadyView(APIView):
    authentication_classes = []
    permission_classes = []
    throttle_classes = []

    @extend_schema(responses={200: Probed, 503: Error})
    def get(self, request: Request) -> Response:
        """Whether this process takes requests: connected once, with its tables, and not ending."""
        reason = readiness.process.reason()
        if reason:
            return Response(error_body(503, reason), status=503, headers={"Retry-After": "1"})
        return Response({"status": "ready", "version": __version__})


class StatsView(APIView):
    permission_classes = [IsStaff]

    @extend_schema(responses=stats.Stats)
    def get(self, request: Request) -> Response:
        """Figures of the whole system, for staff."""
        return Response(stats.stats())


@extend_schema(exclude=True)
class AdminOnlyView(APIView):
    """What staff will find under /admin one day; nobody else learns what is there."""

    permission_classes = [IsStaff]

    def nothing(self, request: Request, path: str) -> Response:
        raise Http404

    get = post = put = patch = delete = nothing


class StatusView(APIView):
    authentication_classes = []
    permission_classes = []
    throttle_classes = []

    @extend_schema(responses=SystemStatus)
    def get(self, request: Request) -> Response:
        """The system's state in brief."""
        state = health.check()
        return Response(
            {
                "status": state.status,
                "message": HEALTH_MESSAGES[state.status],
                "version": __version__,
                "time": format_ms(now_ms()),
                "stores": {
                    name: "up" if store.up else "down" for name, store in state.stores.items()
                },
            }
        )


def admin_login(request: HttpRequest) -> HttpResponse:
    """The admin site's own page; 429 where too many log-ins failed."""
    response = admin.site.login(request)
    refusal = getattr(request, "login_refusal", None)
    if refusal is not None:
        response.status_code = refusal.status_code
        response["Retry-After"] = str(refusal.wait)
    return response


@csrf_exempt
def api_not_found(request: HttpRequest) -> HttpResponse:
    return plain_error(404)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_api(request):
        return plain_error(404)
    return render(request, "404.html", status=404)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return plain_error(400)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_api(request):
        return plain_error(403)
    return render(request, "403.html", status=403)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    if is_api(request):
        return error_response(403, f"The CSRF check failed: {reason}")
    return render(request, "403.html", {"reason": reason}, status=403)


def server_error(request: HttpRequest) -> HttpResponse:
    if is_api(request):
        return plain_error(500)
    return render(request, "500.html", status=500)
