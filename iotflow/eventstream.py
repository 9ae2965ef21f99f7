"""The event log while it grows: above events and accounts, for it needs both."""

from collections.abc import Collection
from dataclasses import dataclass

from django.http import StreamingHttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request

from accounts.proofs import Proof, proof_of, standing
from accounts.requests import current_user
from events.filters import EventFilter
from events.live import View, topic
from events.models import EventLog
from events.news import KNOWN_SECONDS
from events.views import FILTERS
from iotflow.lib.live.views import PARAMETERS, RESPONSES, StreamView


@dataclass(frozen=True, slots=True)
class EventPermit:
    """A user listens to the event log, as of staff or not."""

    proof: Proof
    user_id: int
    is_staff: bool

    @classmethod
    def held(cls, permits: Collection["EventPermit"]) -> set["EventPermit"]:
        people = standing({one.proof for one in permits})
        return {one for one in permits if people.get(one.proof) == (one.user_id, one.is_staff)}


class EventStreamView(StreamView):
    permission_classes = [IsAuthenticated]

    @extend_schema(parameters=[*FILTERS, *PARAMETERS], responses=RESPONSES)
    def get(self, request: Request) -> StreamingHttpResponse:
        """What happens, while it happens, as Server-Sent Events; filtered as the list is.

        `event` is an event for each. With the last id, what came since is sent first. `gap` says
        where events that came late may be missing, `end` why the stream ends.
        """
        filters = EventFilter(request.query_params, queryset=EventLog.objects.none())
        if not filters.is_valid():
            raise ValidationError(dict(filters.errors))
        viewer = current_user(request)
        view = View(viewer, filters)
        return self.stream(
            request,
            topic(filters.form.cleaned_data["kind"]),
            EventPermit(proof_of(request), viewer.pk, viewer.is_staff),
            source=view,
            event="event",
            shape=view.shape,
            settle=1.5 * KNOWN_SECONDS,
        )
