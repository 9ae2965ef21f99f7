"""The event log over HTTP: everything for staff, what is about their things for users."""

from uuid import UUID

from django.conf import settings
from django.http import Http404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from events import parameters, selectors, serializers, sinks
from events.kinds import Kind, Severity
from events.models import EventLog
from iotflow.lib import ids
from iotflow.lib.pagination import limit_parameter

NUMBER = {"type": "integer", "minimum": 1, "maximum": ids.MAX}
FILTERS = [
    OpenApiParameter(
        "kind", str, enum=Kind.values, many=True, explode=False, description="Any of these."
    ),
    OpenApiParameter("severity", str, enum=Severity.values),
    OpenApiParameter("device_id", NUMBER),
    OpenApiParameter("user_id", NUMBER, description="Whose things it is about; for staff."),
    OpenApiParameter("request_id", OpenApiTypes.STR, description="`X-Request-ID` of an answer."),
]
PARAMETERS = [
    OpenApiParameter("start_time", str, description="Included; default -24h."),
    OpenApiParameter("end_time", str, description="Included; default: no end."),
    *FILTERS,
    limit_parameter(settings.LIST_LIMIT, settings.LIST_LIMIT_MAX),
    OpenApiParameter("cursor", str, description="`next_cursor` of the page before."),
]


class EventsView(APIView):
    permission_classes = [IsAuthenticated]

    @extend_schema(parameters=PARAMETERS, responses=serializers.EventList)
    def get(self, request: Request) -> Response:
        """What happened, newest first; follow `next_cursor` until it is null."""
        asked = parameters.parse_query(request.query_params)
        with sinks.guarded():
            events, next_cursor = selectors.page(EventLog.objects.visible_to(request.user), asked)
        return Response(
            {
                "status": "success",
                "events": [serializers.event_body(event, request.user) for event in events],
                "count": len(events),
                "next_cursor": next_cursor,
            }
        )


class EventView(APIView):
    permission_classes = [IsAuthenticated]

    @extend_schema(responses=serializers.EventAnswer)
    def get(self, request: Request, event_id: UUID) -> Response:
        """One event."""
        with sinks.guarded():
            event = EventLog.objects.visible_to(request.user).filter(pk=event_id).first()
        if event is None:
            raise Http404
        body = serializers.event_body(event, request.user)
        return Response({"status": "success", "event": body})
