"""Readings as they come, as Server-Sent Events."""

from functools import partial

from django.http import StreamingHttpResponse
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from accounts.proofs import proof_of
from devices.authentication import DevicePrincipal
from devices.models import DeviceGroup, GroupMembership
from devices.permits import KeyPermit, UserPermit
from devices.views import UserView, current_user
from iotflow.lib.live.topics import Permit, Topic
from iotflow.lib.live.views import PARAMETERS, RESPONSES, StreamView
from telemetry.live import History, newest
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
        permit: Permit
        if isinstance(request.user, DevicePrincipal):
            permit = KeyPermit(subject.id, request.user.device.key_id)
        else:
            permit = UserPermit(proof_of(request), device_id=subject.id)
        return self.stream(
            request,
            Topic(f"device.{subject.id}", frozenset([subject.id])),
            permit,
            partial(newest, subject.id, subject.latest_epoch),
            source=History(subject.id),
        )


class GroupStreamView(StreamView, UserView):
    @extend_schema(parameters=PARAMETERS, responses=RESPONSES)
    def get(self, request: Request, group_id: int) -> StreamingHttpResponse:
        """The readings of all devices of a group as they are stored, as Server-Sent Events.

        As those of a device; but what is not kept any more is not sent, and `gap` says so. Who
        joins or leaves the group does so here within seconds.
        """
        groups = DeviceGroup.objects.visible_to(current_user(request))
        group = get_object_or_404(groups, pk=group_id)

        def members() -> frozenset[int]:
            rows = GroupMembership.objects.filter(group_id=group_id)
            return frozenset(rows.values_list("device_id", flat=True))

        return self.stream(
            request,
            Topic(f"group.{group.pk}", members(), members),
            UserPermit(proof_of(request), group_id=group.pk),
        )
