from collections.abc import Sequence
from typing import Any

from django.db.models.signals import pre_delete
from django.dispatch import receiver

from accounts.models import User
from accounts.signals import user_activity_changed
from devices import key_cache
from devices.models import ApiKey, Device
from devices.services import delete_devices


@receiver(user_activity_changed)
def distrust_keys_of(sender: Any, users: Sequence[User], **kwargs: Any) -> None:
    """Devices act or are refused with their owner, from the next request on."""
    devices = Device.objects.filter(owner__in=users)
    key_cache.invalidate(ApiKey.objects.filter(device__in=devices).locked_digests())


@receiver(pre_delete, sender=User)
def delete_devices_of(sender: Any, instance: User, **kwargs: Any) -> None:
    """A user's devices go the way of any deleted device, not by cascade alone."""
    delete_devices(devices=Device.objects.filter(owner=instance), actor="system")
