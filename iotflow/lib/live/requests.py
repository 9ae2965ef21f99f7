"""What every view of a stream asks of its request."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.views import APIView

from iotflow.lib.json import JSONRenderer
from iotflow.lib.live.stream import Place, parse_place
from iotflow.lib.pagination import whole_number

SECONDS_MAX = 86_400
PARAMETERS = [
    OpenApiParameter(
        "Last-Event-ID",
        str,
        OpenApiParameter.HEADER,
        description="The `id` of the last event that came: go on behind it.",
    ),
    OpenApiParameter(
        "last_event_id",
        str,
        description="The same for who cannot set a header; or a time in ms: go on from then.",
    ),
    OpenApiParameter(
        "seconds",
        {"type": "integer", "minimum": 0, "maximum": SECONDS_MAX},
        description="End after so many; 0: when all that there is was sent. Default: do not end.",
    ),
]
RESPONSES = {(200, "text/event-stream"): OpenApiTypes.STR}


class StreamView(APIView):
    """Errors are JSON, whatever is accepted: EventSource names its own type alone."""

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        return JSONRenderer(), JSONRenderer.media_type


def place_asked(request: Request) -> Place | None:
    """Where the client wants to go on; None from now on. Raises ValidationError (400)."""
    for field, text in (
        ("Last-Event-ID", request.headers.get("Last-Event-ID")),
        ("last_event_id", request.query_params.get("last_event_id")),
    ):
        if text:
            place = parse_place(text)
            if place is None:
                raise ValidationError({field: ["Is no id of an event of this stream."]})
            return place
    return None


def seconds_asked(request: Request) -> int | None:
    seconds = whole_number(request.query_params, "seconds", -1, 0, SECONDS_MAX)
    return None if seconds < 0 else seconds
