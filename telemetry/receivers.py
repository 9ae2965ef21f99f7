from typing import Any

from django.db.models.signals import pre_delete
from django.dispatch import receiver

from devices.models import Device
from devices.signals import devices_deleted
from telemetry.alerting import alerts, rules
from telemetry.alerting.models import AlertRule, AlertState, LiveAlert
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


@receiver(devices_deleted)
def end_alerts_of(sender: Any, device_ids: list[int], **kwargs: Any) -> None:
    """Nothing stays open about a device that is gone."""
    states = AlertState.objects.filter(device_id__in=device_ids)
    list(AlertRule.objects.locked().filter(pk__in=states.values("rule")))
    alerts.resolve_all(LiveAlert.objects.filter(device_id__in=device_ids), "its device was deleted")
    states.delete()


@receiver(pre_delete, sender=AlertRule)
def end_alerts_of_rule(sender: Any, instance: AlertRule, origin: Any, **kwargs: Any) -> None:
    """A rule that goes with its device, group or owner leaves nothing open either."""
    if origin is not instance:
        rules.forget(instance, "system")
