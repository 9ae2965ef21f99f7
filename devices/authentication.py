"""`X-API-Key`: how a request proves which device it comes from."""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from devices import key_cache, keys
from devices.key_cache import DeviceRecord
from devices.models import ApiKey

HEADER = "X-API-Key"


@dataclass(frozen=True, slots=True)
class DevicePrincipal:
    """The `request.user` of a device."""

    device: DeviceRecord
    is_authenticated: bool = True
    is_active: bool = True
    is_staff: bool = False

    @property
    def pk(self) -> str:
        return f"device:{self.device.id}"


class ApiKeyAuthentication(BaseAuthentication):
    """The device of the key in `X-API-Key`; anything but a valid key is a 401."""

    def authenticate(self, request: Request) -> tuple[DevicePrincipal, None] | None:
        key = request.META.get("HTTP_X_API_KEY")
        if not key:
            return None
        record = find_device(key)
        if record is None or record.expired(timezone.now()):
            raise AuthenticationFailed("This API key is unknown, expired or revoked.")
        return DevicePrincipal(record), None

    def authenticate_header(self, request: Request) -> str:
        return f'ApiKey realm="devices", header="{HEADER}"'


def find_device(key: str) -> DeviceRecord | None:
    """The device of a key: from the cache (one round trip), else from the database (one query)."""
    if not keys.well_formed(key):
        return None
    digest = keys.digest(key, settings.API_KEY_PEPPER)
    lookup = key_cache.find(digest)
    if lookup.record is not None:
        return lookup.record
    api_key = ApiKey.objects.valid(timezone.now()).with_device().filter(digest=digest).first()
    if api_key is None:
        return None
    record = _record(api_key)
    key_cache.fill(digest, lookup, record)
    return record


def _record(api_key: ApiKey) -> DeviceRecord:
    device = api_key.device
    ends = [moment.timestamp() for moment in (api_key.expires_at, api_key.revoked_at) if moment]
    return DeviceRecord(
        id=device.pk,
        name=device.name,
        device_type=device.device_type,
        status=device.status,
        owner_id=device.owner_id,
        owner_active=device.owner.is_active,
        latest_epoch=device.latest_epoch,
        key_id=api_key.pk,
        key_prefix=api_key.prefix,
        expires_at=min(ends, default=None),
    )


class IsDevice(BasePermission):
    def has_permission(self, request: Request, view: Any) -> bool:
        return isinstance(request.user, DevicePrincipal)


class IsWritingDevice(IsDevice):
    """A device that may write: not switched off, nor its owner."""

    message = "This device is inactive, or its owner is; it may not write."

    def has_permission(self, request: Request, view: Any) -> bool:
        user = request.user
        return isinstance(user, DevicePrincipal) and user.device.may_write


class ApiKeyScheme(OpenApiAuthenticationExtension):
    target_class = ApiKeyAuthentication
    name = "deviceKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "apiKey", "in": "header", "name": HEADER}
