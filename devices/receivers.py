import time
from collections.abc import Sequence
from typing import Any

from django.db import connection
from django.db.models.signals import pre_delete
from django.dispatch import receiver

from accounts.models import User
from accounts.signals import user_activity_changed, user_leaving
from devices import key_cache
from devices.models import ApiKey, Device
from devices.services import delete_devices

PART = 500
PAUSE_SECONDS = 0.05


@receiver(user_activity_changed)
def distrust_keys_of(sender: Any, users: Sequence[User], **kwargs: Any) -> None:
    """Devices act or are refused with their owner, from the next request on."""
    devices = Device.objects.filter(owner__in=users)
    key_cache.invalidate(ApiKey.objects.filter(device__in=devices).locked_digests())


@receiver(user_leaving)
def delete_devices_in_parts(sender: Any, user: User, **kwargs: Any) -> None:
    """No lock is held for long: SQLite has one for all, and devices submit meanwhile."""
    devices = Device.objects.filter(owner=user).order_by("pk")
    while part := list(devices[:PART]):
        delete_devices(devices=part, actor="system")
        if connection.vendor == "sqlite":  # whoever waits for its lock only looks now and then
            time.sleep(PAUSE_SECONDS)


@receiver(pre_delete, sender=User)
def delete_devices_of(sender: Any, instance: User, **kwargs: Any) -> None:
    """A user's devices go the way of any deleted device, not by cascade alone."""
    delete_devices(devices=Device.objects.filter(owner=instance), actor="system")
