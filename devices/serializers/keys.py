"""Keys as the API shows them."""

from typing import Any

from rest_framework import serializers

from devices.models import ApiKey
from iotflow.lib.timeparse import format_datetime


class Credentials(serializers.Serializer[Any]):
    status = serializers.CharField()
    id = serializers.IntegerField()
    device_id = serializers.IntegerField()
    name = serializers.CharField()
    key_prefix = serializers.CharField()
    created_at = serializers.CharField()
    last_used = serializers.CharField(allow_null=True)
    expires_at = serializers.CharField(allow_null=True)


def credentials_body(api_key: ApiKey, last_used: Any) -> dict[str, Any]:
    return {
        "status": "success",
        "id": api_key.device_id,
        "device_id": api_key.device_id,
        "name": api_key.device.name,
        "key_prefix": api_key.prefix,
        "created_at": format_datetime(api_key.created_at),
        "last_used": format_datetime(last_used),
        "expires_at": format_datetime(api_key.expires_at),
    }
