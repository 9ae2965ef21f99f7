"""The project's addresses, and the floor."""

from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from iotflow.urls import (
    handler400,
    handler403,
    handler404,
    handler500,
)
from iotflow.urls import urlpatterns as project
from telemetry import ingest

__all__ = ["handler400", "handler403", "handler404", "handler500", "urlpatterns"]


class FloorView(APIView):
    """What any answer costs here: the same server and middleware, and nothing to do."""

    authentication_classes = []
    permission_classes = []
    throttle_classes = []

    def get(self, request: Request) -> Response:
        return Response({"status": "success", "message": "The floor."})


class QueueView(FloorView):
    """How many submissions wait in the process that answers."""

    def get(self, request: Request) -> Response:
        return Response({"queue": len(ingest.committer()._queue)})


urlpatterns = [
    path("api/v1/bench/floor", FloorView.as_view()),
    path("api/v1/bench/queue", QueueView.as_view()),
    *project,
]
