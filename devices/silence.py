"""How long a device may be silent before it is offline, by an interval of its own or its type's."""

from typing import NamedTuple

from django.conf import settings

from devices.models import ReportingInterval
from iotflow.lib.remembered import Remembered


class Expectation(NamedTuple):
    """Every how many seconds a device is to be heard, and how much later it may be."""

    interval: int | None
    grace: int | None


NONE = Expectation(None, None)


def stored_types() -> dict[str, Expectation]:
    rows = ReportingInterval.objects.values_list("device_type", "expected_interval", "grace")
    return {device_type: Expectation(*numbers) for device_type, *numbers in rows}


types: Remembered[dict[str, Expectation]] = Remembered("reporting intervals", stored_types, {})


def expectation(device_type: str, own: Expectation) -> Expectation:
    """What counts for a device: what it has of its own, else what its type has. No query."""
    of_type = types().get(device_type, NONE)
    return Expectation(
        of_type.interval if own.interval is None else own.interval,
        of_type.grace if own.grace is None else own.grace,
    )


def allowed(device_type: str, own: Expectation) -> int:
    """Seconds of silence: the interval and the grace, which is as long where nothing says so.

    ONLINE_SECONDS where no interval is known.
    """
    interval, grace = expectation(device_type, own)
    if interval is None:
        return int(settings.ONLINE_SECONDS)
    return interval + (interval if grace is None else grace)
