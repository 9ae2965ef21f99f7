"""Channels and deliveries as the API shows and takes them."""

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError as Invalid
from django.core.validators import validate_email
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from accounts.models import EMAIL as ASCII_ADDRESS
from iotflow.lib.fields import Instant
from iotflow.lib.pagination import PageMeta
from telemetry.notifications import targets
from telemetry.notifications.channels import FORMER_SECONDS_MAX
from telemetry.notifications.models import Delivery, NotificationChannel

FIELDS = ["name", "address", "least_severity", "all_devices", "enabled", "digest_seconds"]
EMAIL_MAX = 254


def check_address(kind: str, address: str) -> None:
    """Raises ValidationError, of the address."""
    try:
        if kind == NotificationChannel.Kind.EMAIL:
            if not settings.SENDS_EMAIL:
                raise ValueError("This installation sends no e-mail.")
            validate_email(address)
            ASCII_ADDRESS(address)
            if len(address) > EMAIL_MAX:
                raise ValueError("This is too long for an e-mail address.")
        else:
            targets.parse(address)
    except Invalid as error:
        raise serializers.ValidationError({"address": error.messages}) from error
    except ValueError as error:
        raise serializers.ValidationError({"address": [str(error)]}) from error


class ChannelChanges(serializers.ModelSerializer[NotificationChannel]):
    """What may be said of a channel that is there: all but its kind. `context` has whose it is."""

    class Meta:
        model = NotificationChannel
        fields = FIELDS

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        kind = attrs["kind"] if self.instance is None else self.instance.kind
        if "address" in attrs:
            check_address(kind, attrs["address"])
        if attrs.get("all_devices") and not self.context["owner"].is_staff:
            raise serializers.ValidationError({"all_devices": ["Only staff hear of everybody's."]})
        return attrs


class ChannelFields(ChannelChanges):
    class Meta(ChannelChanges.Meta):
        fields = ["kind", *FIELDS]


class ChannelBody(serializers.ModelSerializer[NotificationChannel]):
    """A channel in an answer; never its secret."""

    owner_id = serializers.IntegerField(read_only=True)
    state = serializers.ChoiceField(choices=NotificationChannel.State.choices)
    confirmed_at = Instant(allow_null=True)
    failing_since = Instant(allow_null=True)
    next_try = Instant()
    created_at = Instant()
    updated_at = Instant()

    class Meta:
        model = NotificationChannel
        fields = [
            *("id", "owner_id", "kind", *FIELDS, "state", "confirmed_at", "failures"),
            *("failing_since", "next_try", "created_at", "updated_at"),
        ]
        read_only_fields = fields


class ChannelAnswer(serializers.Serializer[Any]):
    status = serializers.CharField()
    channel = ChannelBody()


class ChannelMessage(ChannelAnswer):
    message = serializers.CharField()


class NewChannelAnswer(ChannelMessage):
    """`secret` of a webhook, shown here alone."""

    secret = serializers.CharField(allow_null=True)


@extend_schema_serializer(many=False)
class ChannelList(serializers.Serializer[Any]):
    status = serializers.CharField()
    channels = ChannelBody(many=True)
    meta = PageMeta()


class SecretRotation(serializers.Serializer[Any]):
    """`former_seconds`: for how long the former secret signs besides."""

    former_seconds = serializers.IntegerField(
        default=86_400, min_value=0, max_value=FORMER_SECONDS_MAX
    )


class Confirmation(serializers.Serializer[Any]):
    code = serializers.CharField(max_length=100)


class DeliveryBody(serializers.ModelSerializer[Delivery]):
    """`body` is the text that was or will be sent, `answer` what came of the last attempt."""

    channel_id = serializers.IntegerField(read_only=True)
    next_try = Instant()
    created_at = Instant()
    delivered_at = Instant(allow_null=True)

    class Meta:
        model = Delivery
        fields = [
            *("id", "channel_id", "alert_id", "seq", "status", "attempts", "answer", "next_try"),
            *("created_at", "delivered_at", "body"),
        ]
        read_only_fields = fields


class DeliveryMessage(serializers.Serializer[Any]):
    status = serializers.CharField()
    message = serializers.CharField()
    delivery = DeliveryBody(allow_null=True)


@extend_schema_serializer(many=False)
class DeliveryList(serializers.Serializer[Any]):
    status = serializers.CharField()
    deliveries = DeliveryBody(many=True)
    meta = PageMeta()
