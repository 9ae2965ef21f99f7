from typing import Any

from django.dispatch import receiver

from devices.models import Device
from devices.signals import devices_deleted
from telemetry.models import Erasure


@receiver(devices_deleted)
def erase_telemetry_of(sender: Any, device_ids: list[int], **kwargs: Any) -> None:
    """Note, in the transaction that deletes the devices, that their telemetry has to go."""
    Erasure.objects.bulk_create(
        [
            Erasure(device_id=pk, owner_id=owner_id, latest_epoch=epoch)
            for pk, owner_id, epoch in Device.objects.filter(pk__in=device_ids).values_list(
                "pk", "owner_id", "epochs_given"
            )
        ],
        ignore_conflicts=True,
    )
