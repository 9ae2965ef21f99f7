"""What the MQTT broker has to be told: noted with the change, told by the bridge, then forgotten.

Nothing is noted where no broker is named: nobody would ever tell it.
"""

from collections.abc import Collection, Iterable
from datetime import datetime

from django.conf import settings
from django.db.models import Min

from devices.models import BrokerNotice

AT_ONCE = 100
Subject = BrokerNotice.Subject


def config_changed(device_ids: Iterable[int]) -> None:
    """In the transaction that gives them another version."""
    _note((Subject.CONFIG, device_id) for device_id in device_ids)


def keys_ended(device_ids: Iterable[int]) -> None:
    """In the transaction that ends keys of theirs, or says when they will."""
    _note((Subject.KEYS, device_id) for device_id in device_ids)


def devices_deleted(device_ids: Iterable[int]) -> None:
    told = (Subject.CONFIG, Subject.KEYS)
    _note((subject, device_id) for device_id in device_ids for subject in told)


def commands_wait(device_ids: Iterable[int]) -> None:
    """In the transaction that makes them."""
    _note((Subject.COMMANDS, device_id) for device_id in device_ids)


def commands_asked(device_id: int) -> None:
    """By the device itself, for instance because it has just connected."""
    _note([(Subject.ASKED, device_id)])


def waiting() -> list[BrokerNotice]:
    """The oldest, AT_ONCE of them at most."""
    return list(BrokerNotice.objects.all()[:AT_ONCE])


def told(notices: Collection[BrokerNotice]) -> None:
    BrokerNotice.objects.filter(pk__in=[notice.pk for notice in notices]).delete()


def oldest() -> datetime | None:
    """Since when one has waited; None where none does."""
    moment: datetime | None = BrokerNotice.objects.aggregate(first=Min("created_at"))["first"]
    return moment


def _note(subjects: Iterable[tuple[str, int]]) -> None:
    if settings.MQTT_URL:
        BrokerNotice.objects.bulk_create(
            [BrokerNotice(subject=subject, device_id=device_id) for subject, device_id in subjects]
        )
