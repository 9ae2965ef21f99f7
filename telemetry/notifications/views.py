"""Channels and deliveries over HTTP: everybody's for staff, their own for users."""

from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.permissions import check_may_change
from accounts.requests import current_actor, current_user
from accounts.serializers import MessageAnswer
from devices.throttles import request_charge
from devices.views.base import UserView, UserViewSet
from iotflow.lib.errors import Error
from iotflow.lib.pagination import PAGE, paginate
from iotflow.lib.ratelimit import Charge
from iotflow.lib.throttles import spend
from telemetry.notifications import channels, serializers
from telemetry.notifications.models import Delivery, NotificationChannel

CHANGE = "telemetry.change_notificationchannel"
STATUS = OpenApiParameter("status", str, enum=Delivery.Status.values)


class ChannelViewSet(UserViewSet):
    lookup_url_kwarg = "channel_id"
    lookup_value_converter = "id"

    @extend_schema(parameters=PAGE, responses=serializers.ChannelList)
    def list(self, request: Request) -> Response:
        """Your channels; everybody's for staff."""
        page = paginate(request, NotificationChannel.objects.visible_to(current_user(request)))
        bodies = [serializers.ChannelBody(channel).data for channel in page.rows]
        return Response({"status": "success", "channels": bodies, "meta": page.meta})

    @extend_schema(
        request=serializers.ChannelFields,
        responses={201: serializers.NewChannelAnswer, 409: Error},
    )
    def create(self, request: Request) -> Response:
        """Make a channel: a webhook, whose secret is shown only here, or an e-mail address.

        An address is sent a code, which has to be given to `confirm`.
        """
        owner = current_user(request)
        asked = serializers.ChannelFields(data=request.data, context={"owner": owner})
        asked.is_valid(raise_exception=True)
        self._charge_writing(request, asked.validated_data["kind"])
        channel, secret = channels.create_channel(
            owner=owner, fields=asked.validated_data, actor=current_actor(request)
        )
        return _answer(channel, "Notification channel created", 201, secret=secret)

    @extend_schema(responses=serializers.ChannelAnswer)
    def retrieve(self, request: Request, channel_id: int) -> Response:
        """One channel, and how sending to it goes."""
        channel = _visible(request, channel_id)
        return Response({"status": "success", "channel": serializers.ChannelBody(channel).data})

    @extend_schema(
        request=serializers.ChannelChanges(partial=True),
        responses={200: serializers.ChannelMessage},
    )
    def update(self, request: Request, channel_id: int) -> Response:
        """Change the fields sent. Another e-mail address has to be confirmed."""
        channel = _changeable(request, channel_id)
        asked = serializers.ChannelChanges(
            channel, data=request.data, partial=True, context={"owner": channel.owner}
        )
        asked.is_valid(raise_exception=True)
        if "address" in asked.validated_data:
            self._charge_writing(request, channel.kind)
        channel = channels.change_channel(
            channel=channel, fields=asked.validated_data, actor=current_actor(request)
        )
        return _answer(channel, "Notification channel updated")

    @extend_schema(
        request=serializers.ChannelChanges(partial=True),
        responses={200: serializers.ChannelMessage},
    )
    def partial_update(self, request: Request, channel_id: int) -> Response:
        """The same as PUT."""
        return self.update(request, channel_id)

    @extend_schema(responses={200: MessageAnswer})
    def destroy(self, request: Request, channel_id: int) -> Response:
        """Delete the channel, with what waits to be sent and its log."""
        channel = _changeable(request, channel_id, "telemetry.delete_notificationchannel")
        channels.delete_channel(channel=channel, actor=current_actor(request))
        return Response({"status": "success", "message": "Notification channel deleted"})

    @extend_schema(
        request=serializers.SecretRotation,
        responses={200: serializers.NewChannelAnswer, 409: Error},
    )
    @action(detail=True, methods=["post"], url_path="rotate-secret")
    def rotate_secret(self, request: Request, channel_id: int) -> Response:
        """Give a webhook a new secret, shown only here; the former one signs too for a while."""
        channel = _changeable(request, channel_id)
        asked = serializers.SecretRotation(data=request.data)
        asked.is_valid(raise_exception=True)
        secret = channels.rotate_secret(
            channel=channel, actor=current_actor(request), **asked.validated_data
        )
        return _answer(channel, "Secret rotated", secret=secret)

    @extend_schema(
        request=serializers.Confirmation, responses={200: serializers.ChannelMessage, 409: Error}
    )
    @action(detail=True, methods=["post"])
    def confirm(self, request: Request, channel_id: int) -> Response:
        """Confirm an e-mail address by the code that was sent to it."""
        channel = _changeable(request, channel_id)
        asked = serializers.Confirmation(data=request.data)
        asked.is_valid(raise_exception=True)
        channel = channels.confirm(
            channel=channel, actor=current_actor(request), **asked.validated_data
        )
        return _answer(channel, "Address confirmed")

    @extend_schema(request=None, responses={202: serializers.DeliveryMessage, 409: Error})
    @action(detail=True, methods=["post"])
    def test(self, request: Request, channel_id: int) -> Response:
        """Have a test sent at once; its log says what came of it.

        An address that is not confirmed is sent its code again; `delivery` is null then.
        """
        channel = _changeable(request, channel_id)
        self._charge(request)
        delivery = channels.test_channel(channel=channel)
        return _delivery_answer(delivery, "On its way")

    @extend_schema(parameters=[*PAGE, STATUS], responses=serializers.DeliveryList)
    @action(detail=True, methods=["get"])
    def deliveries(self, request: Request, channel_id: int) -> Response:
        """What was sent and what waits, newest first."""
        found = _visible(request, channel_id).deliveries.all()
        if status := request.query_params.get("status"):
            if status not in Delivery.Status.values:
                raise ValidationError({"status": ["Must be waiting, delivered or given_up."]})
            found = found.filter(status=status)
        page = paginate(request, found)
        bodies = [serializers.DeliveryBody(delivery).data for delivery in page.rows]
        return Response({"status": "success", "deliveries": bodies, "meta": page.meta})

    def _charge_writing(self, request: Request, kind: str) -> None:
        """What makes us write to somebody who may not know of it."""
        if kind == NotificationChannel.Kind.EMAIL:
            self._charge(request)

    def _charge(self, request: Request) -> None:
        who = request_charge(request).who
        spend([Charge("tests of channels", who, settings.RATE_NOTIFICATION_TESTS)], self)


class ReplayView(UserView):
    @extend_schema(request=None, responses={202: serializers.DeliveryMessage, 409: Error})
    def post(self, request: Request, delivery_id: UUID) -> Response:
        """Send it again, under the id that it had."""
        found = Delivery.objects.visible_to(current_user(request)).select_related("channel")
        delivery = get_object_or_404(found, pk=delivery_id)
        check_may_change(current_user(request), delivery.channel.owner_id, CHANGE)
        delivery = channels.replay(delivery=delivery, actor=current_actor(request))
        return _delivery_answer(delivery, "On its way")


def _answer(channel: NotificationChannel, message: str, status: int = 200, **more: Any) -> Response:
    body = serializers.ChannelBody(channel).data
    return Response(
        {"status": "success", "message": message, "channel": body, **more}, status=status
    )


def _delivery_answer(delivery: Delivery | None, message: str) -> Response:
    body = serializers.DeliveryBody(delivery).data if delivery else None
    return Response({"status": "success", "message": message, "delivery": body}, status=202)


def _visible(request: Request, channel_id: int) -> NotificationChannel:
    visible = NotificationChannel.objects.visible_to(current_user(request)).select_related("owner")
    return cast(NotificationChannel, get_object_or_404(visible, pk=channel_id))


def _changeable(request: Request, channel_id: int, permission: str = CHANGE) -> NotificationChannel:
    channel = _visible(request, channel_id)
    check_may_change(current_user(request), channel.owner_id, permission)
    return channel
