"""Keys as the API shows and takes them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.utils import timezone
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from devices.models import ApiKey
from iotflow.lib.fields import Instant
from iotflow.lib.pagination import PageMeta
from iotflow.lib.timeparse import format_datetime


class NewKeyFields(serializers.Serializer[Any]):
    """What an owner says about a new key. A time without a zone is UTC."""

    label = serializers.CharField(  # type: ignore[assignment]  # it hides a name of DRF's own
        max_length=100, required=False, allow_blank=True
    )
    expires_at = serializers.DateTimeField(
        required=False, allow_null=True, default_timezone=UTC, help_text="In the future."
    )

    def validate_expires_at(self, moment: datetime | None) -> datetime | None:
        if moment is not None and moment <= timezone.now():
            raise serializers.ValidationError("This time is past.")
        return moment


class Rotation(NewKeyFields):
    """What an owner says about the new key, and how long the older ones go on."""

    grace_seconds = serializers.IntegerField(
        min_value=0,
        max_value=settings.KEY_GRACE_SECONDS_MAX,
        default=0,
        help_text="How long the older keys go on; 0 ends them at once.",
    )


class KeyFields(NewKeyFields):
    valid_from = serializers.DateTimeField(
        required=False, allow_null=True, default_timezone=UTC, help_text="Default now."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        starts, ends = attrs.get("valid_from"), attrs.get("expires_at")
        if starts and ends and ends <= starts:
            raise serializers.ValidationError({"expires_at": ["It must be after valid_from."]})
        return attrs


class KeyBody(serializers.Serializer[Any]):
    """A key in an answer: everything but the key."""

    id = serializers.IntegerField()
    device_id = serializers.IntegerField()
    label = serializers.CharField(  # type: ignore[assignment]
        max_length=100, allow_blank=True
    )
    prefix = serializers.CharField()
    state = serializers.ChoiceField(choices=ApiKey.State.choices)
    valid_from = Instant(allow_null=True)
    expires_at = Instant(allow_null=True)
    revoked_at = Instant(allow_null=True)
    created_at = Instant()
    last_used = Instant(allow_null=True)


def key_body(api_key: ApiKey, last_used: datetime | None) -> dict[str, Any]:
    return {
        "id": api_key.pk,
        "device_id": api_key.device_id,
        "label": api_key.label,
        "prefix": api_key.prefix,
        "state": api_key.state(timezone.now()).value,
        "valid_from": format_datetime(api_key.valid_from),
        "expires_at": format_datetime(api_key.expires_at),
        "revoked_at": format_datetime(api_key.revoked_at),
        "created_at": format_datetime(api_key.created_at),
        "last_used": format_datetime(last_used),
    }


def key_bodies(
    api_keys: Sequence[ApiKey], last_used: Mapping[int, datetime | None]
) -> list[dict[str, Any]]:
    return [key_body(api_key, last_used[api_key.pk]) for api_key in api_keys]


class NewKeyAnswer(serializers.Serializer[Any]):
    """`api_key` is the key itself, shown only here."""

    status = serializers.CharField()
    message = serializers.CharField()
    device_id = serializers.IntegerField()
    api_key = serializers.CharField()
    key = KeyBody()


class RotationAnswer(NewKeyAnswer):
    grace_seconds = serializers.IntegerField()


@extend_schema_serializer(many=False)
class KeyList(serializers.Serializer[Any]):
    status = serializers.CharField()
    device_id = serializers.IntegerField()
    keys = KeyBody(many=True)
    meta = PageMeta()


class Credentials(serializers.Serializer[Any]):
    status = serializers.CharField()
    id = serializers.IntegerField()
    device_id = serializers.IntegerField()
    name = serializers.CharField()
    key_id = serializers.IntegerField()
    key_prefix = serializers.CharField()
    created_at = Instant()
    last_used = Instant(allow_null=True)
    expires_at = Instant(allow_null=True)


def credentials_body(api_key: ApiKey, last_used: Any) -> dict[str, Any]:
    return {
        "status": "success",
        "id": api_key.device_id,
        "device_id": api_key.device_id,
        "name": api_key.device.name,
        "key_id": api_key.pk,
        "key_prefix": api_key.prefix,
        "created_at": format_datetime(api_key.created_at),
        "last_used": format_datetime(last_used),
        "expires_at": format_datetime(api_key.expires_at),
    }
