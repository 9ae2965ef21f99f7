"""Readings as they come, as Server-Sent Events."""

from django.http import StreamingHttpResponse
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from accounts.proofs import proof_of
from devices.authentication import DevicePrincipal
from devices.models import DeviceGroup, GroupMembership
from devices.views import UserView, current_user
from iotflow.lib.live.answers import answer, most
from iotflow.lib.live.hub import Topic, places
from iotflow.lib.live.requests import PARAMETERS, RESPONSES, StreamView, place_asked, seconds_asked
from iotflow.lib.live.stream import Place, Stream
from iotflow.lib.timeparse import EARLIEST, now_ms
from telemetry.live import History
from telemetry.live.permits import KeyPermit, UserPermit
from telemetry.live.source import newest
from telemetry.views.base import TelemetryView


class DeviceStreamView(StreamView, TelemetryView):
    @extend_schema(parameters=PARAMETERS, responses=RESPONSES)
    def get(self, request: Request, device_id: int) -> StreamingHttpResponse:
        """A device's readings as they are stored, as Server-Sent Events.

        `reading` is an event for each. With the last id, what came since is sent first: nothing is
        missing and nothing comes twice. `gap` says where readings that came late may be missing,
        `end` why the stream ends. A comment comes where nothing else does.
        """
        subject = self.subject(request, device_id)
        asked, seconds = place_asked(request), seconds_asked(request)
        place = asked or Place(None, newest(subject.id, subject.latest_epoch, EARLIEST))
        permit: KeyPermit | UserPermit
        if isinstance(request.user, DevicePrincipal):
            permit = KeyPermit(subject.id, request.user.device.key_id)
        else:
            permit = UserPermit(proof_of(request), device_id=subject.id)
        stream = Stream(
            Topic(f"device.{subject.id}", frozenset([subject.id])),
            permit,
            places.take(request.user.pk, most(request._request)),
            place=place,
            is_new=asked is None,
            source=History(subject.id),
            seconds=seconds,
        )
        return answer(request._request, stream)


class GroupStreamView(StreamView, UserView):
    @extend_schema(parameters=PARAMETERS, responses=RESPONSES)
    def get(self, request: Request, group_id: int) -> StreamingHttpResponse:
        """The readings of all devices of a group as they are stored, as Server-Sent Events.

        As those of a device; but what is not kept any more is not sent, and `gap` says so. Who
        joins or leaves the group does so here within seconds.
        """
        groups = DeviceGroup.objects.visible_to(current_user(request))
        group = get_object_or_404(groups, pk=group_id)
        asked, seconds = place_asked(request), seconds_asked(request)

        def members() -> set[int]:
            rows = GroupMembership.objects.filter(group_id=group_id)
            return set(rows.values_list("device_id", flat=True))

        stream = Stream(
            Topic(f"group.{group.pk}", frozenset(members()), members),
            UserPermit(proof_of(request), group_id=group.pk),
            places.take(request.user.pk, most(request._request)),
            place=asked or Place(None, now_ms()),
            is_new=asked is None,
            seconds=seconds,
        )
        return answer(request._request, stream)
