"""Devices as they are named on a command line, and readings as they are counted there."""

from django.core.management.base import CommandError

from devices.models import Device

ID_DIGITS = 18


def find_device(name_or_id: str, owner: str | None) -> Device:
    """The device of this id, else of this name. CommandError where there is none or several."""
    devices = Device.objects.select_related("owner")
    if owner is not None:
        devices = devices.filter(owner__username__iexact=owner)
    of_whom = "" if owner is None else f" of {owner}"
    if name_or_id.isascii() and name_or_id.isdigit() and len(name_or_id) <= ID_DIGITS:
        by_id: Device | None = devices.filter(pk=int(name_or_id)).first()
        if by_id is not None:
            return by_id
    found: list[Device] = list(devices.filter(name=name_or_id)[:10])
    if not found:
        raise CommandError(f"There is no device{of_whom} with the name or id “{name_or_id}”.")
    if len(found) > 1:
        choices = ", ".join(f"{device.pk} ({device.owner.username})" for device in found)
        raise CommandError(
            f"Several devices are named “{name_or_id}”: {choices}. "
            "Give --owner USERNAME, or the id as --device."
        )
    return found[0]


def readings(count: int) -> str:
    return f"{count:,} reading{'' if count == 1 else 's'}"
