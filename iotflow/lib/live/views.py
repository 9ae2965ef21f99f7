"""What every view of a stream asks of its request, and how it answers.

On ASGI a stream runs in the server's loop. On WSGI each holds a thread, so few may be open there.
"""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.views import APIView

from iotflow.lib.json import JSONRenderer
from iotflow.lib.live.stream import Place, Stream, parse_place
from iotflow.lib.live.threads import Threaded
from iotflow.lib.live.topics import Chunks, Permit, Topic
from iotflow.lib.pagination import whole_number
from iotflow.lib.timeparse import now_ms

SECONDS_MAX = 86_400
EVENTS = "text/event-stream; charset=utf-8"
SECONDS = OpenApiParameter(
    "seconds",
    {"type": "integer", "minimum": 0, "maximum": SECONDS_MAX},
    description="End after so many; 0: when all that there is was sent. Default: do not end.",
)
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
    SECONDS,
]
RESPONSES = {(200, "text/event-stream"): OpenApiTypes.STR}


class StreamResponse(StreamingHttpResponse):
    """A stream as an answer."""

    def __init__(self, stream: Chunks, *, is_async: bool, content_type: str = EVENTS) -> None:
        content: Any = stream if is_async else Threaded(stream)
        super().__init__(content, content_type=content_type)
        self.stream = stream
        self["Cache-Control"] = "no-store"
        self["X-Accel-Buffering"] = "no"  # nginx is not to gather it


class StreamView(APIView):
    """Errors are JSON, whatever is accepted: EventSource names its own type alone.

    There is no HEAD: it would go on like a stream, and say nothing.
    """

    http_method_names = ["get", "options"]

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        return JSONRenderer(), JSONRenderer.media_type

    def stream(
        self,
        request: Request,
        topic: Topic,
        permit: Permit,
        newest: Callable[[], int] = now_ms,
        **more: Any,
    ) -> StreamResponse:
        """What the topic says from where the client asks for; or from now on, behind `newest`.

        `more` is what Stream takes besides. Raises ValidationError (400), TooManyRequests (429).
        """
        place, seconds = _place(request), seconds_of(request)
        is_async, most = room(request)
        stream = Stream(
            topic,
            permit,
            request.user.pk,
            most,
            place=place or Place(None, newest()),
            is_new=place is None,
            seconds=seconds,
            **more,
        )
        return StreamResponse(stream, is_async=is_async)


def room(request: Request) -> tuple[bool, int]:
    """Whether it is answered in a loop, and how many streams may be open there."""
    is_async = isinstance(request._request, ASGIRequest)
    return is_async, settings.STREAMS_MAX if is_async else settings.STREAMS_IN_THREADS


def _place(request: Request) -> Place | None:
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


def seconds_of(request: Request) -> int | None:
    """For how long a stream was asked for; None for no end."""
    seconds = whole_number(request.query_params, "seconds", -1, 0, SECONDS_MAX)
    return None if seconds < 0 else seconds
