"""`X-API-Key`: how a request proves which device it comes from."""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts import failures
from devices import key_cache, keys
from devices.key_cache import DeviceRecord
from devices.models import ApiKey
from events.kinds import Kind
from iotflow.lib import counters
from iotflow.lib.address import DEVICE
from iotflow.lib.throttles import counted_address

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
            who = counted_address(request._request)
            failures.note(Kind.DEVICE_KEY_REFUSED, "A key was refused", who, lambda: _whose(key))
            raise AuthenticationFailed("This API key is unknown, expired or revoked.")
        request.META[DEVICE] = record.id
        return DevicePrincipal(record), None

    def authenticate_header(self, request: Request) -> str:
        return f'ApiKey realm="devices", header="{HEADER}"'


def _whose(key: str) -> dict[str, Any]:
    """The same for what was sent as a key; nothing of what never was one."""
    if not keys.well_formed(key):
        return {}
    peppers = [settings.API_KEY_PEPPER, *settings.API_KEY_PEPPERS_OLD]
    digests = [keys.digest(key, pepper) for pepper in peppers]
    api_key = ApiKey.objects.filter(digest__in=digests).select_related("device").first()
    return {} if api_key is None else about_ended(api_key)


def about_ended(api_key: ApiKey) -> dict[str, Any]:
    """What an event tells of a key that is good no more; its device is read with it."""
    return {
        "user_id": api_key.device.owner_id,
        "device_id": api_key.device_id,
        "payload": {"key_id": api_key.pk, "prefix": api_key.prefix},
    }


def find_device(key: str) -> DeviceRecord | None:
    """The device of a key: from the cache (one round trip), else from the database (one query)."""
    if not keys.well_formed(key):
        return None
    digest = keys.digest(key, settings.API_KEY_PEPPER)
    lookup = key_cache.find(digest)
    if lookup.record is not None:
        counters.count("keys.hits")
        return lookup.record
    counters.count("keys.misses")
    api_key = _stored(key, digest)
    if api_key is None:
        return None
    record = record_of(api_key)
    key_cache.fill(digest, lookup, record)
    return record


def _stored(key: str, digest: str) -> ApiKey | None:
    """The valid key of this digest, be it that it had to be moved under the present pepper."""
    valid = ApiKey.objects.valid(timezone.now()).with_device()
    api_key = valid.filter(digest=digest).first()
    if api_key is None and settings.API_KEY_PEPPERS_OLD and _move(key, digest):
        api_key = valid.filter(digest=digest).first()
    return api_key


def _move(key: str, digest: str) -> bool:
    """Whether the key was made under a former pepper; it is under the present one then.

    Whoever ends the key or changes its device meanwhile holds its row (`locked_digests`): they
    come first and are seen when it is read again, or they invalidate the new digest. The former
    one is invalidated here: a process whose present pepper it still is may have it cached.
    """
    former = [keys.digest(key, pepper) for pepper in settings.API_KEY_PEPPERS_OLD]
    found = ApiKey.objects.valid(timezone.now()).filter(digest__in=former)
    if not found.exists():
        return False
    with transaction.atomic():
        key_cache.invalidate(found.locked_digests())
        found.update(digest=digest, pepper=keys.fingerprint(settings.API_KEY_PEPPER))
    return True


def record_of(api_key: ApiKey) -> DeviceRecord:
    """What is cached of a key; its device and owner are read with it."""
    device = api_key.device
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
        expires_at=api_key.expires_at.timestamp() if api_key.expires_at else None,
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
        return {
            "type": "apiKey",
            "in": "header",
            "name": HEADER,
            "description": "The key of a device, shown once when it is made.",
        }
