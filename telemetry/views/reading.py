"""What was measured, for whoever may see it; and a device's time range to be deleted."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from accounts.requests import current_actor
from devices.authentication import DevicePrincipal
from devices.models import DeviceGroup
from devices.views import UserView, current_user
from iotflow.lib.errors import StoreAway
from iotflow.lib.pagination import PAGE, limit_parameter, paginate
from iotflow.lib.timeparse import format_ms
from telemetry import deleting, exports, latest, parameters, selectors, serializers
from telemetry.aggregates import AGGREGATIONS
from telemetry.selectors import Subject
from telemetry.stores import telemetry_store
from telemetry.views.base import OwnTelemetryView, TelemetryView

CONTENT_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
FIELDS = OpenApiParameter("fields", str, description="Measurements, separated by commas.")
TIME_PARAMETERS = [
    OpenApiParameter("start_time", str, description="Included; default -24h."),
    OpenApiParameter("end_time", str, description="Included; default now."),
    limit_parameter(settings.HISTORY_LIMIT, settings.HISTORY_LIMIT_MAX),
    OpenApiParameter("cursor", str, description="`next_cursor` of the page before."),
]


class HistoryView(OwnTelemetryView):
    @extend_schema(
        parameters=[
            *TIME_PARAMETERS,
            FIELDS,
            OpenApiParameter("order", str, enum=["desc", "asc"]),
        ],
        responses=serializers.HistoryAnswer,
    )
    def get(self, request: Request, device_id: int) -> Response:
        """A device's readings, newest first; follow `next_cursor` until it is null."""
        subject = self.subject(request, device_id)
        asked = parameters.parse_history(request.query_params)
        return Response(selectors.history_body(subject, asked))

    def direct(self, request: HttpRequest, **parts: Any) -> HttpResponse | None:
        try:
            asked = parameters.parse_history(request.GET)
        except ValidationError:
            return None
        return self.own(
            request, parts["device_id"], lambda own, _: selectors.history_body(own, asked)
        )

    @extend_schema(
        request=serializers.Range,
        parameters=[
            OpenApiParameter("start_time", str, description="Where the body does not say it."),
            OpenApiParameter("stop_time", str, description="Included."),
        ],
        responses=serializers.DeleteAnswer,
    )
    def delete(self, request: Request, device_id: int) -> Response:
        """Delete a device's readings from `start_time` to `stop_time`, both included."""
        subject = self.subject(request, device_id)
        self.check_may_write(request, subject)
        start, stop = parameters.parse_range(request)
        deleting.delete_range(device_id=subject.id, start=start, end=stop, actor=actor(request))
        return Response(
            {
                "message": "Telemetry data deleted",
                "device_id": subject.id,
                "start_time": format_ms(start),
                "stop_time": format_ms(stop),
            }
        )


class AggregatedView(TelemetryView):
    @extend_schema(
        parameters=[
            *TIME_PARAMETERS[:2],
            OpenApiParameter("field", str, required=True, description="The measurement."),
            OpenApiParameter("aggregation", str, enum=list(AGGREGATIONS), default="mean"),
            OpenApiParameter(
                "window", str, description="1m to 30d, such as 15m; or auto. Default 1h."
            ),
            OpenApiParameter(
                "timezone", str, description="Where days begin at midnight; default UTC."
            ),
            OpenApiParameter(
                "fill", str, enum=list(parameters.FILLS), description="Windows without values."
            ),
            OpenApiParameter(
                "points",
                {
                    "type": "integer",
                    "minimum": parameters.POINTS_MIN,
                    "maximum": settings.AGGREGATE_POINTS_MAX,
                },
                description="For a chart: at most so many windows, those that keep its shape.",
            ),
        ],
        responses=serializers.AggregateAnswer,
    )
    def get(self, request: Request, device_id: int) -> Response:
        """One measurement over windows of time, oldest first; windows without values are left out.

        Unless `fill` is null. Where `truncated`, ask again from `next_start_time`.
        """
        subject = self.subject(request, device_id)
        asked = parameters.parse_aggregate(request.query_params)
        rows, more = selectors.aggregated(subject, asked)
        return Response(
            {
                **subject.heading(),
                "field": asked.field,
                "aggregation": asked.aggregation,
                "window": asked.window_text,
                "timezone": asked.zone_text,
                "start_time": asked.span.start_text,
                "end_time": asked.span.end_text,
                "data": rows,
                "truncated": more is not None,
                "next_start_time": None if more is None else format_ms(more),
                "cassandra_available": selectors.cassandra_available(),
            }
        )


class ExportView(TelemetryView):
    @extend_schema(
        parameters=[
            *TIME_PARAMETERS[:2],
            OpenApiParameter("format", str, enum=list(parameters.FORMATS), default="csv"),
            FIELDS,
            OpenApiParameter("order", str, enum=["asc", "desc"], default="asc"),
            OpenApiParameter(
                "cursor", str, description="From the last line of an export that broke off."
            ),
        ],
        responses={
            (200, CONTENT_TYPES["csv"]): OpenApiTypes.STR,
            (200, CONTENT_TYPES["ndjson"]): OpenApiTypes.STR,
            (200, CONTENT_TYPES["parquet"]): OpenApiTypes.BINARY,
        },
    )
    def get(self, request: Request, device_id: int) -> StreamingHttpResponse:
        """A device's readings as a file, as many as there are.

        NDJSON and Parquet are exact. CSV has a column for every measurement; texts that a
        spreadsheet would take for a formula begin with an apostrophe. Parquet has a row for every
        value: timestamp, measurement, and the value in the column of its type.
        """
        subject = self.subject(request, device_id)
        asked = parameters.parse_export(request.query_params)
        return StreamingHttpResponse(
            exports.export(subject.id, subject.latest_epoch, asked),
            content_type=CONTENT_TYPES[asked.format],
            headers={
                "Content-Disposition": f'attachment; filename="device-{subject.id}.{asked.format}"'
            },
        )


class LatestView(OwnTelemetryView):
    @extend_schema(responses=serializers.LatestAnswer)
    def get(self, request: Request, device_id: int) -> Response:
        """The latest value, by its own time, of every measurement of a device."""
        return Response(selectors.latest_body(self.subject(request, device_id)))

    def direct(self, request: HttpRequest, **parts: Any) -> HttpResponse | None:
        return self.own(request, parts["device_id"], selectors.latest_body, _latest_key)


def _latest_key(subject: Subject) -> str:
    return latest.latest_key((subject.id, subject.latest_epoch))


class GroupLatestView(UserView):
    @extend_schema(parameters=PAGE, responses=serializers.GroupLatestAnswer)
    def get(self, request: Request, group_id: int) -> Response:
        """The latest values of every device of a group."""
        groups = DeviceGroup.objects.visible_to(current_user(request))
        group = get_object_or_404(groups, pk=group_id)
        page = paginate(request, group.devices.all())
        return Response(
            {
                "status": "success",
                "group_id": group.pk,
                "group_name": group.name,
                "devices": selectors.latest_bodies(page.rows),
                "meta": page.meta,
                "cassandra_available": selectors.cassandra_available(),
            }
        )


class FeedView(UserView):
    @extend_schema(parameters=TIME_PARAMETERS, responses=serializers.FeedAnswer)
    def get(self, request: Request, user_id: str) -> Response:
        """The newest values across a user's devices."""
        user = get_object_or_404(User.objects.visible_to(current_user(request)), user_id=user_id)
        asked = parameters.parse_feed(request.query_params)
        rows, next_cursor = selectors.feed(user, asked)
        return Response(
            {
                "status": "success",
                "user_id": str(user.user_id),
                "telemetry": rows,
                "count": len(rows),
                "limit": asked.limit,
                "start_time": asked.span.start_text,
                "end_time": asked.span.end_text,
                "next_cursor": next_cursor,
            }
        )


class StoreStatusView(APIView):
    authentication_classes = []
    permission_classes = []
    throttle_classes = []

    @extend_schema(responses=serializers.StoreStatus)
    def get(self, request: Request) -> Response:
        """Whether telemetry can be stored now."""
        store = telemetry_store()
        try:
            store.ping()
            up = True
        except StoreAway:
            up = False
        return Response(
            {
                "backend": store.name,
                "cassandra_available": store.is_cassandra and up,
                "status": "healthy" if up else "unavailable",
            }
        )


def actor(request: Request) -> str:
    """How an event names whoever asks."""
    if isinstance(request.user, DevicePrincipal):
        return f"device:{request.user.device.id}"
    return current_actor(request)
