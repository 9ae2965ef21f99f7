"""Reads that are worth an event: of what may hold secrets of others."""

from typing import Any

from events import log
from events.kinds import Kind
from iotflow.lib.ratelimit import Charge, take


def config_read(reader: Any, device_id: int, owner_id: int | None = None) -> None:
    """Record that a user reads what a device is told: once an hour for each of them.

    What owners read is theirs, where it is known who that is.
    """
    once = Charge("events of configurations read", f"{reader.pk}:{device_id}", "1/h")
    if reader.pk == owner_id or take([once]).refusal:
        return
    log.record(
        Kind.DEVICE_CONFIG_READ,
        f"Configuration of device {device_id} was read",
        actor=f"user:{reader.get_username()}",
        user_id=owner_id,
        device_id=device_id,
    )
